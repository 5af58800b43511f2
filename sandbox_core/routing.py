"""Where an event goes: an immutable table of routes, and one pure decision."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from . import subjects
from .events import CONNECTION_EVENTS, GUILD_LOCATIONS, Frame, Place
from .models import Route


class Side(StrEnum):
    """The kinds of destination; the values are the metrics' `destination` label."""

    SANDBOX = "sandbox"
    PRODUCTION = "production"
    UNATTRIBUTED = "unattributed"
    DEAD_LETTER = "dead_letter"
    HANDLED = "handled"
    """Handled by this process and not published: the connection's own events, commands given to it."""


class Destination:
    """Where one event goes; what its subject and stream are called there is the publishing side's."""

    __slots__ = ("key", "label", "sandbox_id", "side")

    def __init__(self, side: Side, *, sandbox_id: str | None = None) -> None:
        self.side: Final = side
        self.sandbox_id: Final = sandbox_id
        self.key: Final[str] = sandbox_id or side.value
        """Tells destinations apart; a plain text, which is hashed once."""
        self.label: Final = side.value
        """What the metrics call it."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Destination):
            return NotImplemented
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<Destination {self.key}>"


PRODUCTION: Final = Destination(Side.PRODUCTION)
UNATTRIBUTED: Final = Destination(Side.UNATTRIBUTED)
DEAD_LETTER: Final = Destination(Side.DEAD_LETTER)
HANDLED: Final = Destination(Side.HANDLED)


def sandbox_destination(sandbox_id: str) -> Destination:
    """The destination of one sandbox's events. Raises `InvalidInput` when the id is no UUID."""
    return Destination(Side.SANDBOX, sandbox_id=subjects.checked_sandbox_id(sandbox_id))


class RouteTable:
    """Guild to sandbox, as known at one moment. Immutable: a change makes another table."""

    __slots__ = ("_entries",)

    def __init__(self, routes: Mapping[str, Route] | None = None) -> None:
        # A hundred thousand guilds have a few sandboxes: those with the same route share what it makes.
        entries: dict[Route, tuple[float, Destination]] = {}
        for route in set((routes or {}).values()):
            entries[route] = (route.expires_at, sandbox_destination(route.sandbox_id))
        self._entries = {guild_id: entries[route] for guild_id, route in (routes or {}).items()}

    def with_changes(self, changes: Mapping[str, Route | None]) -> RouteTable:
        """A table with some guilds' routes replaced; None removes one."""
        table = RouteTable()
        entries = table._entries
        entries.update(self._entries)
        for guild_id, route in changes.items():
            if route is None:
                entries.pop(guild_id, None)
            else:
                entries[guild_id] = (route.expires_at, sandbox_destination(route.sandbox_id))
        return table

    def entry(self, guild_id: str) -> Route | None:
        """The guild's route, expired or not."""
        entry = self._entries.get(guild_id)
        if entry is None or entry[1].sandbox_id is None:
            return None
        return Route(entry[1].sandbox_id, entry[0])

    def other_sides(self, newer: RouteTable) -> dict[str, Route | None]:
        """The guilds that `newer` sends to another sandbox, or to production, with their new routes.

        A route that only ends at another moment is on the same side.
        """
        before, after = self._entries, newer._entries
        changed: dict[str, Route | None] = {}
        for guild_id, (expires_at, where) in after.items():
            known = before.get(guild_id)
            if (known is None or known[1] != where) and where.sandbox_id is not None:
                changed[guild_id] = Route(where.sandbox_id, expires_at)
        changed.update(dict.fromkeys(before.keys() - after.keys()))
        return changed

    def same_side(self, guild_id: str, route: Route | None) -> bool:
        """True when `route` sends the guild where this table sends it, whenever it expires."""
        entry = self._entries.get(guild_id)
        if entry is None or route is None:
            return entry is None and route is None
        return entry[1].sandbox_id == route.sandbox_id

    def destination(self, guild_id: str, now: float) -> Destination | None:
        """Where the guild's events go at `now` (seconds since the epoch), or None for production."""
        entry = self._entries.get(guild_id)
        if entry is None or now >= entry[0]:
            return None
        return entry[1]

    def ends_at(self, guild_id: str) -> float:
        """When the guild's route ends, in seconds since the epoch; the guild has one."""
        return self._entries[guild_id][0]

    def route(self, guild_id: str, now: float) -> Route | None:
        """The guild's route at `now`, or None when its events go to production."""
        entry = self._entries.get(guild_id)
        if entry is None or now >= entry[0] or entry[1].sandbox_id is None:
            return None
        return Route(entry[1].sandbox_id, entry[0])

    def routes(self, now: float) -> dict[str, Route]:
        """Every guild whose events go to a sandbox at `now`, with its route."""
        return {
            guild: Route(where.sandbox_id, expires_at)
            for guild, (expires_at, where) in self._entries.items()
            if where.sandbox_id is not None and now < expires_at
        }

    def guilds_of(self, sandbox_id: str) -> Iterator[str]:
        """The guilds mapped to one sandbox, expired or not."""
        return (guild for guild, (_, where) in self._entries.items() if where.sandbox_id == sandbox_id)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, guild_id: object) -> bool:
        return guild_id in self._entries


class TrustedTable:
    """A process's route table, and until when it is known to be what PostgreSQL says.

    The end is looked at whenever the table is used, so that a process that was stopped as a whole does not go
    on with what it knew before.
    """

    __slots__ = ("table", "until")

    def __init__(self, table: RouteTable | None = None, until: float = -math.inf) -> None:
        self.table = table
        """The last table known; None before the first full read."""
        self.until = until
        """On the monotonic clock, in seconds."""

    def at(self, now: float) -> RouteTable | None:
        """The table while it can be trusted, else None; `now` is on the monotonic clock."""
        return self.table if now < self.until else None


def is_handled_here(frame: Frame) -> bool:
    """True for what this process deals with and nobody is to get, whatever the routes are."""
    if frame.is_own_interaction:
        return True
    if frame.guild_id is not None or frame.attributed_to is not None:
        return False
    return frame.type in CONNECTION_EVENTS or frame.is_owner_command


def decide(frame: Frame, table: RouteTable, now: float) -> Destination:
    """Where `frame` goes, given the routes and the time (seconds since the epoch). Pure.

    The guild decides and nothing else does: the one the event names, or the one its channel or
    interaction was found to belong to. An event that has no guild is production's. One that has a guild
    which can't be told (it is unreadable, or an ephemeral message's channel is unknown) is never guessed
    onto a side. What the event does not tell and the router found out is in its hints.
    """
    guild_id = frame.guild_id
    if guild_id is None:
        if is_handled_here(frame):
            return HANDLED
        guild_id = frame.attributed_to
    elif frame.is_own_interaction:
        return HANDLED
    if guild_id is not None:
        if frame.type not in GUILD_LOCATIONS and not subjects.is_event_type(frame.type):
            return DEAD_LETTER
        return table.destination(guild_id, now) or PRODUCTION
    if not subjects.is_event_type(frame.type):
        return DEAD_LETTER
    if frame.guild_id_unreadable or (frame.hints is not None and frame.hints.place is Place.GUILD):
        return UNATTRIBUTED
    return PRODUCTION
