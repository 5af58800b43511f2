"""The findings of `doctor`: each says what was found, where, and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    """Only information; nothing to do."""
    FAILED = "failed"
    """Something must be fixed."""
    AWAY = "away"
    """The server does not answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of checking one thing."""

    area: str
    state: State
    detail: str
    mend: str = ""
    """A sentence that says what to do; empty when there is nothing to do."""
    where: str = ""
    """Host and port of the server; empty when the check is of no server."""
    commands: tuple[str, ...] = ()
    """Statements or commands that fix it, each ready to run."""

    @property
    def wrong(self) -> bool:
        """Whether something must be fixed."""
        return self.state in {State.FAILED, State.AWAY}


class Look:
    """Collects the findings about one area, in the order of the checks."""

    def __init__(self, area: str, where: str) -> None:
        self.area = area
        self.where = where
        self.found: list[Finding] = []

    @property
    def wrong(self) -> bool:
        """Whether a finding must be fixed."""
        return any(finding.wrong for finding in self.found)

    def ok(self, detail: str) -> None:
        """Add that something is right."""
        self._add(State.OK, detail)

    def note(self, detail: str, mend: str = "", commands: Sequence[str] = ()) -> None:
        """Add information."""
        self._add(State.NOTE, detail, mend, commands)

    def failed(self, detail: str, mend: str, commands: Sequence[str] = ()) -> None:
        """Add something that must be fixed."""
        self._add(State.FAILED, detail, mend, commands)

    def away(self, detail: str, mend: str, commands: Sequence[str] = ()) -> None:
        """Add that the server does not answer, or refuses every login."""
        self._add(State.AWAY, detail, mend, commands)

    def judge(self, right: bool, detail: str, mend: str) -> None:
        """Add `ok` when `right`, else `failed` with what to do."""
        if right:
            self.ok(detail)
        else:
            self.failed(detail, mend)

    def _add(self, state: State, detail: str, mend: str = "", commands: Sequence[str] = ()) -> None:
        self.found.append(Finding(self.area, state, detail, mend, self.where, tuple(commands)))
