"""Which side is right for an event, told by the answers to the commands.

A side is a sandbox's id, or `PRODUCTION`. Between the moment a command is sent and its answer both the old
and the new side are right. An event may be decided at any moment between being sent and being stored, so it
is right on a side that was right at any moment in between.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

PRODUCTION = "production"
UNATTRIBUTED = "unattributed"
DEAD_LETTER = "dead letter"


@dataclass(slots=True)
class _Span:
    side: str
    begins: float
    ends: float = math.inf


class Sides:
    """The sides of every guild over time, in seconds since the epoch."""

    def __init__(self) -> None:
        self._spans: dict[int, list[_Span]] = defaultdict(lambda: [_Span(PRODUCTION, -math.inf)])
        self._present: dict[int, str] = {}

    def present(self, guild_id: int) -> str:
        """The side after the latest command that was answered."""
        return self._present.get(guild_id, PRODUCTION)

    def changed(self, guild_id: int, side: str, asked: float, answered: float | None) -> None:
        """A command sent at `asked` was answered; None when nobody knows what became of it."""
        spans = self._spans[guild_id]
        if answered is not None:
            for span in spans:
                span.ends = min(span.ends, answered)
            self._present[guild_id] = side
        spans.append(_Span(side, asked))

    def allowed(self, guild_id: int | None, begin: float, end: float) -> set[str]:
        """The sides that were right at some moment from `begin` to `end`."""
        if guild_id is None:
            return {PRODUCTION}
        spans = self._spans.get(guild_id)
        if spans is None:
            return {PRODUCTION}
        return {span.side for span in spans if span.begins <= end and span.ends >= begin}


def side_of(subject: str) -> str:
    """The side that a subject belongs to."""
    parts = subject.split(".")
    if parts[0] == "sandbox":
        return parts[1]
    if parts[0] == "slot":
        # As the bot publishes to a sandbox's own account.
        return parts[2]
    if parts[1] == "unattributed":
        return UNATTRIBUTED
    return DEAD_LETTER if parts[1] == "dead_letter" else PRODUCTION
