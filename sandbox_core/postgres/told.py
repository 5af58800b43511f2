"""What notifications say, read strictly: whoever may connect to the database may send one.

A payload that is none of ours changes nothing, and never ends the connection that heard it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import msgspec
import structlog

from sandbox_core.subjects import is_guild_id

_log = structlog.get_logger("sandbox.postgres")

_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_TOLD_EVERY = 60.0


class _Changed(msgspec.Struct):
    guild_id: str


class SwitchQuestion(msgspec.Struct, frozen=True):
    """The wish that everybody switches these guilds; `request` is its nonce, which an answer repeats."""

    request: UUID
    guilds: frozenset[str]


class SwitchAnswer(msgspec.Struct, frozen=True):
    """That the process has switched the guilds of this question."""

    request: UUID
    process: UUID


_T = TypeVar("_T")


class Told:
    """Reads the payloads that one listener hears. `monotonic` is in seconds."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._said_at: float | None = None
        self._unsaid = 0

    def changed_guild(self, payload: object) -> str | None:
        """The guild whose route changed; None for anything else."""
        read = self._read(payload, _Changed, lambda changed: is_guild_id(changed.guild_id))
        return None if read is None else read.guild_id

    def question(self, payload: object) -> SwitchQuestion | None:
        """The question; None for anything else."""
        return self._read(payload, SwitchQuestion, lambda asked: all(map(is_guild_id, asked.guilds)))

    def answer(self, payload: object) -> SwitchAnswer | None:
        """The answer; None for anything else."""
        return self._read(payload, SwitchAnswer, lambda _: True)

    def _read(self, payload: object, kind: type[_T], is_right: Callable[[_T], bool]) -> _T | None:
        try:
            if isinstance(payload, str):
                read = msgspec.json.decode(payload, type=kind)
                if is_right(read):
                    return read
        except _UNREADABLE:
            pass
        self._say(payload)
        return None

    def _say(self, payload: object) -> None:
        """Once a minute: a flood of them must not become a flood of log lines."""
        now = self._monotonic()
        self._unsaid += 1
        if self._said_at is not None and now - self._said_at < _TOLD_EVERY:
            return
        size = len(payload) if isinstance(payload, str) else 0
        _log.warning("notification_unreadable", count=self._unsaid, characters=size)
        self._said_at, self._unsaid = now, 0
