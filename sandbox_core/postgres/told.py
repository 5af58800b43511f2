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

from sandbox_core.strangers import UNREADABLE, Seldom
from sandbox_core.subjects import is_guild_id

_log = structlog.get_logger("sandbox.postgres")


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
        self._unreadable = Seldom(_log, "notification_unreadable", monotonic=monotonic)

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
        except UNREADABLE:
            pass
        self._unreadable.say(characters=len(payload) if isinstance(payload, str) else 0)
        return None
