"""How much a sandbox stores where the server can't limit it: measured, and compared with a limit; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MIB = 1024 * 1024

_NEAR, _FULL = 0.8, 1.0
# A sandbox at a limit would otherwise cross it again and again, and its owner would be told each time.
_NEAR_NO_MORE, _FULL_NO_MORE = 0.7, 0.9


class Level(StrEnum):
    """How near a sandbox is to what it may store."""

    ROOM = "room"
    NEAR = "near"
    """Its owner is told."""
    FULL = "full"
    """Its owner is told, and with a login of its own it writes no more until it has room again."""


@dataclass(frozen=True, slots=True)
class StorageLimit:
    """What one sandbox may store in one store."""

    bytes: int
    items: int | None = None
    """The most keys; None where only the bytes count."""
    all_bytes: int | None = None
    """The most of all sandboxes together; None for no limit."""

    def share(self, used: int, items: int) -> float:
        """Return the used part of the limit that is nearer; 1 is all of it."""
        shares = [used / self.bytes]
        if self.items is not None:
            shares.append(items / self.items)
        return max(shares)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a sandbox stores in one store, at its last measurement."""

    store: str
    bytes: int
    items: int
    """Keys in Redis, tables in PostgreSQL."""
    measured_at: datetime
    level: Level = Level.ROOM
    before: Level = Level.ROOM
    """The level until `since`."""
    since: datetime | None = None
    """When it got to its level; None when it has always been there."""

    def measured(self, used: int, items: int, at: datetime, limit: StorageLimit) -> Stored:
        """Return the next measurement; it is at another level when it has crossed a limit."""
        level = level_after(self.level, limit.share(used, items))
        if level is self.level:
            return Stored(self.store, used, items, at, level, self.before, self.since)
        return Stored(self.store, used, items, at, level, self.level, at)


def level_after(level: Level, share: float) -> Level:
    """Return the level with this part of the limit used, after `level`."""
    if share >= _FULL or (level is Level.FULL and share >= _FULL_NO_MORE):
        return Level.FULL
    # From full it goes down to near, and further down without a stop.
    if share >= _NEAR or (level is not Level.ROOM and share >= _NEAR_NO_MORE):
        return Level.NEAR
    return Level.ROOM


def mebibytes(size: int) -> str:
    """Return a size for people, without its unit: `12.3`, `256`."""
    number = size / MIB
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.1f}"
