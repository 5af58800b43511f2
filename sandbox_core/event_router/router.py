"""Decide and publish: every dispatch frame goes to exactly one subject, in order per guild.

A lane is one guild's events (or those without a guild). It has at most one publication in flight:
JetStream stores what it accepts, and after a refusal, a leader change or a lost connection nobody can
say whether a later message was stored while an earlier one was not. Waiting for the acknowledgement
before the next one of the same guild is what keeps the order through all of these; different guilds'
events are in flight together. One guild can so publish as many events a second as acknowledgements come
back one after the other, which on a local network is over a thousand; Discord sends far fewer.

An event's side is decided when it is published. To switch a guild's route, its lane is paused: what the
lane holds by then still goes by the old route, since it happened before the change, and what comes later
stops. When the former is acknowledged the table changes, and the lane goes on to the new side.

A caller that handles events itself is told each one's side on arrival, and it stays; see `Verdicts`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from sandbox_core.events import DISPATCH, Frame
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.nats.publication import Publication
from sandbox_core.routing import HANDLED, Destination, RouteTable, Side, decide, is_handled_here
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames

from .activity import Activity
from .attribution import Attribution
from .backlog import Backlog
from .channels import TEACHES, ChannelOwners
from .event import GUILDLESS, Event, Messages, length
from .finder import OwnerFinder
from .held import RouteQuestions, Routes
from .ledger import ShardLedger
from .verdicts import Tell, Verdicts

_NO_ROUTES = RouteTable()
_NOBODYS = ShardLedger("", 0)
"""The bookkeeping of what is not published here."""
_NOBODYS.lose()


class Publisher(Protocol):
    """Publishes until acknowledged; see `AckPublisher`."""

    def submit(self, publication: Publication) -> None: ...

    def in_flight(self) -> list[Publication]: ...

    def withdraw(self, publication: Publication) -> None: ...


class EventRouter:
    """Takes frames, decides each one's destination and keeps it until JetStream has acknowledged it.

    `finder` asks beyond this process whose a guild-less event is. `names` are the streams'. `now` is in
    seconds since the epoch and judges expiry; `monotonic` is in seconds and measures.
    """

    def __init__(
        self,
        routes: Routes,
        metrics: RoutingMetrics,
        *,
        max_pending: int,
        finder: OwnerFinder | None = None,
        names: StreamNames = DEFAULT_NAMES,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self._metrics = metrics
        self._messages = Messages(names)
        self._now = now
        self._monotonic = monotonic
        self._publisher: Publisher | None = None
        self.channels = ChannelOwners()
        """What the gateway's events told about channels."""
        # A quarter at most: the other events' room must not be taken by those that wait here.
        self._attribution: Attribution[Event] = Attribution(
            self.channels, finder, self._attributed, max_waiting=max(1, max_pending // 4)
        )
        self._last: dict[str, Event] = {}
        """The last event of each lane that has any. A lane's first event is in flight, or in `_stopped`."""
        self._stopped: dict[str, Event] = {}
        """The first event of each lane that is paused, or whose route is not known."""
        self._paused: set[str] = set()
        self._leaving: dict[str, tuple[Event, RouteTable]] = {}
        """Lanes with events from before a change of routes: the last of those, and the routes they go by."""
        self._questions = RouteQuestions(routes, self._lanes_to_ask_for, self._settle)
        self._verdicts = Verdicts(routes, lambda lane: lane not in self._paused, now)
        self._backlog = Backlog(max_pending)
        self.room, self.idle = self._backlog.room, self._backlog.idle
        """Return when the router takes more frames; when every frame taken is acknowledged or handled."""
        self.joining, self.joined = self._backlog.joining, self._backlog.joined
        """Told of a shard when events that were kept of it are about to come; when they came or will not."""
        self.activity = Activity(now)
        """How busy guilds and sandboxes were in the last minute."""
        self.on_drained: Callable[[], None] = _nothing
        """Called when a paused guild has nothing in flight any more."""
        self.before_switch: list[Callable[[], Awaitable[None]]] = []
        """What `about_to_switch` awaits; each limits its own time."""

    def attach(self, publisher: Publisher) -> None:
        """Give the publisher; the publisher in turn reports to this router."""
        self._publisher = publisher

    @property
    def pending(self) -> int:
        """Frames taken and not yet acknowledged."""
        return self._backlog.count

    @property
    def held(self) -> int:
        """Frames whose side is not known yet."""
        stopped = sum(length(self._stopped[lane]) for lane in self._unknown())
        return stopped + self._attribution.waiting

    @property
    def waiting_for(self) -> str:
        """Why events wait, naming the dependency; "" while none do."""
        return self._questions.obstacle

    @property
    def full(self) -> bool:
        """True when the caller should wait for `room` before it reads on."""
        return self._backlog.full

    def route(self, frame: Frame, ledger: ShardLedger, tell: Tell | None = None) -> bool:
        """Take one dispatch frame; returns at once, False when there is nothing to do with it.

        A caller that can hold its source back awaits `room` whenever the router is `full`. One that handles
        events itself gives `tell`: it is told the side of what was taken, mostly before this returns.
        """
        if frame.op != DISPATCH or not ledger.receive(frame.seq):
            return False
        waits = False
        if frame.guild_id is not None:
            if frame.type in TEACHES:
                self.channels.learn(frame)
            handled = frame.is_own_interaction
        else:
            waits = frame.hints is not None and not self._attribution.settle(frame)
            handled = not waits and is_handled_here(frame)
        if handled:
            ledger.done(frame.seq)
            if tell is not None:
                tell(HANDLED)
            return True
        event = Event(frame, ledger, tell)
        self._backlog.add(event.size)
        if waits:
            self._attribution.wait(event)
            return True
        if tell is not None:
            self._decide_now(event)
        # As in `_attributed`, and not shared with it: every event would pay for the call.
        last = self._last.get(event.lane)
        self._last[event.lane] = event
        if last is None:
            self._start(event)
        else:
            last.behind = event
        return True

    def judge(self, frame: Frame, tell: Tell) -> None:
        """Tell where a dispatch frame goes that is not to be published here, or not yet.

        If it is routed after all, it goes there.
        """
        if frame.guild_id is None and frame.hints is not None and not self._attribution.settle(frame):
            event = Event(frame, _NOBODYS, tell)
            self._backlog.add(event.size)
            self._attribution.wait(event)
        elif is_handled_here(frame):
            tell(HANDLED)
        else:
            self._decide_now(Event(frame, _NOBODYS, tell))

    def count_dropped(self, reason: str) -> None:
        """A frame never came here because it can't be routed; `reason` is one of a fixed set."""
        self._metrics.dropped[reason] += 1

    async def close(self) -> None:
        """Stop deciding; what is not acknowledged by now is left to Discord's replay."""
        await self._attribution.close()
        await self._questions.close()
        self._verdicts.close()

    # Losing a session

    def discard(self, ledger: ShardLedger) -> list[Frame]:
        """Drop the session's events, unacknowledged; other sessions' go on. Returns their frames.

        Those whose owner is still being asked for are dropped when the answer comes.
        """
        if self._publisher is None:
            raise RuntimeError("a router without publisher has no sessions to lose")
        ledger.lose()
        discarded: list[Frame] = []
        for publication in self._publisher.in_flight():
            event = publication.context
            if not isinstance(event, Event):
                continue
            following = self._discard_from(event, ledger, discarded)
            if event.ledger is not ledger:
                continue
            self._publisher.withdraw(publication)
            if following is not None:
                self._start(following)
            if event.lane in self._paused:
                self.on_drained()
        for lane, event in list(self._stopped.items()):
            following = self._discard_from(event, ledger, discarded)
            if following is None:
                del self._stopped[lane]
            else:
                self._stopped[lane] = following
        return sorted(discarded, key=lambda frame: frame.seq)

    def _discard_from(self, first: Event, ledger: ShardLedger, discarded: list[Frame]) -> Event | None:
        """Take the ledger's events out of the lane that begins with `first`; returns what is first then."""
        lane = first.lane
        until = self._leaving[lane][0] if lane in self._leaving else None
        kept: list[Event] = []
        event: Event | None = first
        while event is not None:
            if event.ledger is not ledger:
                kept.append(event)
            else:
                discarded.append(event.frame)
                self._backlog.take_off(event.size)
            if event is until and event.ledger is ledger:
                _, table = self._leaving.pop(lane)
                if kept:
                    self._leaving[lane] = (kept[-1], table)
            event = event.behind
        for number, event in enumerate(kept):
            event.behind = kept[number + 1] if number + 1 < len(kept) else None
        if not kept:
            del self._last[lane]
            return None
        self._last[lane] = kept[-1]
        return kept[0]

    # Switching a guild's route

    def pause(self, guild_ids: Collection[str]) -> None:
        """Publish nothing of these guilds that comes from now on until `resume`."""
        self.keep_side(guild_ids)
        self._paused.update(guild_ids)
        self._questions.void(guild_ids)

    def keep_side(self, guild_ids: Collection[str]) -> None:
        """What is here of these guilds goes by the routes as they are now, whatever changes next."""
        table = self._routes.current_table
        if table is None:
            return
        for guild_id in guild_ids:
            if self.in_flight(guild_id) and guild_id not in self._paused:
                self._leaving.setdefault(guild_id, (self._last[guild_id], table))
                self._verdicts.settle(guild_id, table)

    def in_flight(self, guild_id: str) -> bool:
        """True while an event of the guild is on its way: published and not acknowledged, or about to be."""
        return guild_id in self._last and guild_id not in self._stopped

    async def about_to_switch(self) -> None:
        """Save what has to be saved before drained guilds' routes change."""
        for action in self.before_switch:
            await action()

    def resume(self, guild_ids: Collection[str]) -> None:
        """Go on with these guilds, by the routes as they are now."""
        self._paused.difference_update(guild_ids)
        table = self._routes.current_table
        for guild_id in guild_ids:
            if table is not None:
                self._verdicts.settle(guild_id, table)
            first = self._stopped.pop(guild_id, None)
            if first is not None:
                self._start(first)
        if table is None and self._verdicts.waiting():
            self._questions.ask()

    # Deciding

    def _decide_now(self, event: Event) -> None:
        self._metrics.table_lookups += 1
        if not self._verdicts.take(event.frame, event.lane, event.decided) and event.lane not in self._paused:
            self._questions.ask()

    def _attributed(self, event: Event) -> None:
        """It was found out whose the event is, or that nobody can tell."""
        event.lane = event.frame.attributed_to or GUILDLESS
        if event.tell is not None:
            self._decide_now(event)
        if event.ledger.lost:
            self._backlog.take_off(event.size)
            return
        if is_handled_here(event.frame):
            self._finished(event)
            return
        last = self._last.get(event.lane)
        self._last[event.lane] = event
        if last is None:
            self._start(event)
        else:
            last.behind = event

    def _start(self, event: Event) -> None:
        """The event is its lane's first, and nothing of the lane is in flight: decide it and publish."""
        # It may have been judged before it was routed, and been told only since.
        told = event.destination or event.frame.decided
        if told is not None:
            self._publish(event, told)
            return
        lane = event.lane
        if not lane:
            self._publish(event, decide(event.frame, _NO_ROUTES, self._now()))
            return
        if self._leaving and lane in self._leaving:
            self._publish(event, decide(event.frame, self._leaving[lane][1], self._now()))
            return
        if self._paused and lane in self._paused:
            self._stopped[lane] = event
            return
        table = self._routes.current_table
        if table is None:
            self._hold(event)
            return
        self._metrics.table_lookups += 1
        self._publish(event, self._decided(event, table))

    def _hold(self, event: Event) -> None:
        self._stopped[event.lane] = event
        self._metrics.held += 1
        self._questions.ask()

    def _decided(self, event: Event, table: RouteTable) -> Destination:
        self._verdicts.settle(event.lane, table)
        return event.destination or event.frame.decided or decide(event.frame, table, self._now())

    def _unknown(self) -> list[str]:
        return [lane for lane in self._stopped if lane not in self._paused]

    def _lanes_to_ask_for(self) -> list[str]:
        return list(dict.fromkeys([*self._unknown(), *self._verdicts.waiting()]))

    def _settle(self, lane: str, table: RouteTable) -> None:
        event = self._stopped.get(lane)
        if event is not None:
            self._publish(event, self._decided(event, table))
            del self._stopped[lane]
        else:
            self._verdicts.settle(lane, table)

    # Publishing

    def _publish(self, event: Event, destination: Destination) -> None:
        event.destination = destination
        if self._publisher is None:
            raise RuntimeError("an event is to be published without a publisher")
        self._publisher.submit(self._messages.of(event, destination))

    def acknowledged(self, publication: Publication) -> None:
        """JetStream has the event: its frame is done, and the next one of its lane may go."""
        event = publication.context
        if not isinstance(event, Event) or event.destination is None:
            raise TypeError("not a publication of this router")
        frame, destination, lane, behind = event.frame, event.destination, event.lane, event.behind
        side = Side.DEAD_LETTER if publication.is_dead_letter else destination.side
        metrics = self._metrics
        metrics.routed[side] += 1
        metrics.route_seconds.observe(self._monotonic() - frame.received_at)
        if frame.type != "GUILD_CREATE":
            # Every new session brings one per guild: that is no sign of life in the guild.
            self.activity.count(lane or None, destination.sandbox_id)
        self._finished(event)
        if self._leaving and lane in self._leaving and self._leaving[lane][0] is event:
            del self._leaving[lane]
        if behind is None:
            del self._last[lane]
        else:
            self._start(behind)
        if self._paused and lane in self._paused:
            self.on_drained()

    def attempt_failed(self, reason: str) -> None:
        """The publisher will try again; count it."""
        self._metrics.error(reason)

    def _finished(self, event: Event) -> None:
        event.ledger.done(event.frame.seq)
        self._backlog.take_off(event.size)


def _nothing() -> None:
    """Nobody switches routes."""
