"""What `doctor` finds: one thing, where it is, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    FAILED = "failed"
    """Something has to be mended."""
    AWAY = "away"
    """The server does not answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: str
    state: State
    detail: str
    mend: str = ""
    """A sentence that says what to do; empty when nothing is."""
    where: str = ""
    """Host and port of the server, where there is one."""
    commands: tuple[str, ...] = ()
    """Statements or commands that do it, each to be run as it stands."""

    @property
    def wrong(self) -> bool:
        """True when something has to be mended."""
        return self.state in {State.FAILED, State.AWAY}


class Look:
    """Collects what is found about one area, in the order of the looking."""

    def __init__(self, area: str, where: str) -> None:
        self.area = area
        self.where = where
        self.found: list[Finding] = []

    @property
    def wrong(self) -> bool:
        """True when something that was found has to be mended."""
        return any(finding.wrong for finding in self.found)

    def ok(self, detail: str) -> None:
        """As it should be."""
        self._add(State.OK, detail)

    def note(self, detail: str, mend: str = "", commands: Sequence[str] = ()) -> None:
        """Worth knowing."""
        self._add(State.NOTE, detail, mend, commands)

    def failed(self, detail: str, mend: str, commands: Sequence[str] = ()) -> None:
        """To be mended."""
        self._add(State.FAILED, detail, mend, commands)

    def away(self, detail: str, mend: str, commands: Sequence[str] = ()) -> None:
        """The server does not answer, or lets nobody in."""
        self._add(State.AWAY, detail, mend, commands)

    def judge(self, right: bool, detail: str, mend: str) -> None:
        """`ok`, or `failed` with what to do."""
        if right:
            self.ok(detail)
        else:
            self.failed(detail, mend)

    def _add(self, state: State, detail: str, mend: str = "", commands: Sequence[str] = ()) -> None:
        self.found.append(Finding(self.area, state, detail, mend, self.where, tuple(commands)))
