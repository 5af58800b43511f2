"""A lane: one guild's events in their order, of which at most one is on its way.

JetStream stores what it accepts. After a refusal, a leader change or a lost connection nobody can say whether
a later message was stored while an earlier one was not. So the next event of a guild waits until the one
before it is acknowledged; that keeps the order through all of these.

An event's side is decided when it is published. To switch a guild's route, its lane is paused: what it holds
by then leaves by the old routes, since it happened before the change. What comes later waits until the lane
is resumed, and goes by the new routes.

Somebody who handles events beside the router (a host's own code) can't wait for that. It is told an event's
side on arrival, and the event then goes there and nowhere else. Where the side can't be told yet, the frame
waits in the lane, and what comes later waits behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from sandbox_core.events import Frame
from sandbox_core.nats.wire import Label
from sandbox_core.routing import PRODUCTION, Destination, RouteTable, decide

from .ledger import ShardLedger

GUILDLESS = ""
"""The lane of the events that belong to no guild."""

Tell = Callable[[Destination | None], None]
"""Told where an event goes; None when nobody here will ever know."""


class LaneState(Enum):
    """What a lane does with the next event that comes."""

    OPEN = auto()
    """It is published as soon as the one before it is acknowledged."""
    LEAVING = auto()
    """Events from before a change of routes are on their way, by the old routes."""
    PAUSED = auto()
    """The route is being switched: it waits."""
    UNKNOWN = auto()
    """The route is not known: it waits for an answer."""


class Event(msgspec.Struct, gc=False, eq=False):
    """A frame the router has taken responsibility for."""

    frame: Frame
    ledger: ShardLedger
    lane: Lane
    tell: Tell | None = None
    """Told the event's side as soon as it is decided, which is then on arrival where possible."""
    destination: Destination | None = None
    """Where it goes, once that is decided."""
    borne_by: str = ""
    """The sandbox that bears it; "" while it counts towards production's backlog."""
    charged: bool = False
    """It takes from that sandbox's budget."""

    def decided(self, destination: Destination | None) -> None:
        """It goes there, whatever changes before it is published."""
        self.destination = self.frame.decided = destination
        if self.tell is not None:
            self.tell(destination)


class _Untold(NamedTuple):
    frame: Frame
    tell: Tell


class Lane:
    """The events of one guild, or of none."""

    __slots__ = (
        "_behind",
        "_ends",
        "_labels",
        "_shard",
        "_table",
        "_untold",
        "charges",
        "destination",
        "first",
        "guild_id",
        "is_sent",
        "is_special",
        "last_to_leave",
        "old_routes",
        "paused",
    )

    def __init__(self, guild_id: str) -> None:
        self.guild_id = guild_id
        """"" for the events of no guild."""
        self.first: Event | None = None
        """The event that is on its way, or else the one that waits longest."""
        self.is_sent = False
        """The first event was given to the publisher, and is not acknowledged."""
        self.charges = ""
        """The sandbox that has to bear what waits here; "" when that is not known, or production's."""
        self.is_special = False
        """Something else than the current routes decides where the next event goes, or when."""
        self.paused = False
        self.last_to_leave: Event | None = None
        """Up to this one, events leave by `old_routes`."""
        self.old_routes: RouteTable | None = None
        self._behind: deque[Event] | None = None
        self._untold: deque[_Untold] | None = None
        self.destination = PRODUCTION
        """Where the guild's events go, as far as `label` knows."""
        self._table: RouteTable | None = None
        self._ends = 0.0
        """When the present route ends, in seconds since the epoch; 0 for one that does not."""
        self._shard = ""
        self._labels: dict[str, Label] = {}

    @property
    def state(self) -> LaneState:
        """What it does with the next event."""
        if self.last_to_leave is not None:
            return LaneState.LEAVING
        if self.paused:
            return LaneState.PAUSED
        if self._untold or (self.first is not None and not self.is_sent):
            return LaneState.UNKNOWN
        return LaneState.OPEN

    @property
    def is_idle(self) -> bool:
        """True when nothing would be lost with it."""
        return self.first is None and not self.paused and not self._untold

    def __len__(self) -> int:
        return len(self._behind or ()) + (self.first is not None)

    def __iter__(self) -> Iterator[Event]:
        if self.first is not None:
            yield self.first
        yield from self._behind or ()

    # Events

    def add(self, event: Event) -> bool:
        """Put it last; True when it is the first one, which nothing is in the way of."""
        if self.first is None:
            self.first = event
            return True
        if self._behind is None:
            self._behind = deque()
        self._behind.append(event)
        return False

    def off(self) -> Event | None:
        """The first event is acknowledged or handled; returns the next one."""
        if self.is_special and self.last_to_leave is self.first:
            self.last_to_leave = self.old_routes = None
            self._judge()
        behind = self._behind
        self.is_sent = False
        self.first = following = behind.popleft() if behind else None
        return following

    @property
    def behind(self) -> Collection[Event]:
        """The events behind the first one, in their order."""
        return self._behind or ()

    def remove(self, event: Event) -> None:
        """Take out an event behind the first one."""
        if event is self.last_to_leave:
            events = list(self)
            self.last_to_leave = events[events.index(event) - 1]
        if self._behind is not None:
            # Nearly always the one in front.
            self._behind.remove(event)

    def discard(self, ledger: ShardLedger) -> tuple[list[Event], bool]:
        """Take the session's events out; returns them, and whether the first one was among them."""
        events = list(self)
        kept = [event for event in events if event.ledger is not ledger]
        if len(kept) == len(events):
            return [], False
        if self.last_to_leave is not None:
            leaving = events[: events.index(self.last_to_leave) + 1]
            left = [event for event in leaving if event.ledger is not ledger]
            self.last_to_leave = left[-1] if left else None
            self.old_routes = self.old_routes if left else None
            self._judge()
        first = self.first
        self.first = kept[0] if kept else None
        self._behind = deque(kept[1:]) if len(kept) > 1 else None
        if was_first := self.first is not first:
            self.is_sent = False
        return [event for event in events if event.ledger is ledger], was_first

    # Switching the route

    def pause(self) -> None:
        """What comes from now on waits for `resume`."""
        self.paused = True
        self.charges = ""
        self._judge()

    def resume(self) -> None:
        """The switch is over."""
        self.paused = False
        self._judge()

    def keep_side(self, table: RouteTable, now: float) -> None:
        """What is here goes by this table, whatever changes next."""
        if self.is_sent and not self.paused and self.last_to_leave is None:
            self.last_to_leave, self.old_routes = self._behind[-1] if self._behind else self.first, table
            self._judge()
        if self.is_sent and not self.paused:
            self.tell_waiting(table, now)

    def _judge(self) -> None:
        self.is_special = self.paused or self.last_to_leave is not None or bool(self._untold)

    # Telling sides

    @property
    def has_untold(self) -> bool:
        """True while somebody waits to be told an event's side."""
        return bool(self._untold)

    def tell(self, frame: Frame, tell: Tell, table: RouteTable | None, now: float) -> bool:
        """Tell the event's side now, and return True; or keep it until the side is known."""
        if table is not None and not self._untold and not self.paused:
            tell(decide(frame, table, now))
            return True
        if self._untold is None:
            self._untold = deque()
        self._untold.append(_Untold(frame, tell))
        self._judge()
        return False

    def tell_waiting(self, table: RouteTable, now: float) -> None:
        """Those that wait are told: their events go by this table."""
        while self._untold:
            frame, tell = self._untold.popleft()
            tell(decide(frame, table, now))
        self._judge()

    def tell_nobody_knows(self) -> None:
        """Nothing more is decided."""
        while self._untold:
            self._untold.popleft().tell(None)

    # What the guild's messages have in common

    def label(self, event_type: str, shard: str, table: RouteTable, now: Callable[[], float]) -> Label | None:
        """The label of the guild's messages of this type; None when it has to be made. See `destination`."""
        if table is not self._table or shard != self._shard or (self._ends and now() >= self._ends):
            self._go_by(table, shard, now())
        return self._labels.get(event_type)

    def keep_label(self, event_type: str, label: Label) -> None:
        """This is the one that `label` did not have."""
        self._labels[event_type] = label

    def _go_by(self, table: RouteTable, shard: str, now: float) -> None:
        destination = table.destination(self.guild_id, now)
        self._ends = 0.0 if destination is None else table.ends_at(self.guild_id)
        if (destination or PRODUCTION) != self.destination or shard != self._shard:
            self._labels.clear()
        self._table, self._shard, self.destination = table, shard, destination or PRODUCTION


class Lanes(dict[str, Lane]):
    """A process's lanes by guild. Those that nothing would be lost with go when there are many.

    Each takes about 1 KB, with its messages' headers.
    """

    def __init__(self, most: int = 10_000) -> None:
        super().__init__()
        self._few = self._most = most

    def __missing__(self, guild_id: str) -> Lane:
        if len(self) >= self._most:
            for idle in [other for other, lane in self.items() if lane.is_idle]:
                del self[idle]
            self._most = max(self._few, 2 * len(self))
        lane = self[guild_id] = Lane(guild_id)
        return lane

    @property
    def unknown(self) -> int:
        """How many events wait for an answer to where they go."""
        return sum(len(lane) for lane in self.values() if lane.state is LaneState.UNKNOWN)
