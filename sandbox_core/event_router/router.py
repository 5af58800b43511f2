"""Decide and publish: every dispatch frame goes to exactly one subject, in order per guild.

One guild can publish as many events a second as acknowledgements come back one after the other, which on a
local network is over a thousand; Discord sends far fewer. Different guilds' events are in flight together.
See `Lane` for how one guild's events keep their order.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog

from sandbox_core.attribution import TEACHES, Attribution, ChannelGuilds, ChannelLookup
from sandbox_core.events import DISPATCH, Frame
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.nats.publication import Publication, Publisher
from sandbox_core.nats.wire import Label
from sandbox_core.routing import HANDLED, Destination, RouteTable, decide, is_handled_here
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames

from .activity import Activity
from .lane import GUILDLESS, Event, Lane, Lanes, Tell
from .ledger import Backlog, ShardLedger
from .messages import Messages
from .route_questions import RouteQuestions, Routes

_log = structlog.get_logger("sandbox.router")

_NO_ROUTES = RouteTable()
_NOBODYS = ShardLedger("", 0)
"""The bookkeeping of what is not published here."""
_NOBODYS.lose()


class EventRouter:
    """Takes frames, decides each one's destination and keeps it until JetStream has acknowledged it.

    `lookup` asks beyond this process for the guild of an event that names none. `names` are the streams'.
    `now` is in seconds since the epoch and judges expiry; `monotonic` is in seconds and measures.
    """

    def __init__(
        self,
        routes: Routes,
        metrics: RoutingMetrics,
        *,
        max_pending: int,
        lookup: ChannelLookup | None = None,
        names: StreamNames = DEFAULT_NAMES,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trusted = routes.trusted
        self._metrics = metrics
        self._messages = Messages(names)
        self._now = now
        self._monotonic = monotonic
        self._publisher: Publisher | None = None
        self.channels = ChannelGuilds() if lookup is None else lookup.guilds
        """Which guild channels are of."""
        # A quarter at most: the other events' room must not be taken by those that wait here.
        self._attribution: Attribution[Event] = Attribution(
            self.channels, lookup, self._attributed, max_waiting=max(1, max_pending // 4)
        )
        self.lanes = Lanes()
        """One for each guild, and one for the events of none."""
        self._questions = RouteQuestions(routes, self._answered)
        self.backlog = Backlog(max_pending)
        """What was taken and is not acknowledged."""
        self.room, self.idle = self.backlog.room, self.backlog.idle
        """Return when the router takes more frames; when every frame taken is acknowledged or handled."""
        self.joining, self.joined = self.backlog.joining, self.backlog.joined
        """Told of a shard when events that were kept of it are about to come; when they came or will not."""
        self.activity = Activity(now, metrics)
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
        return self.backlog.count

    @property
    def held(self) -> int:
        """Frames whose side is not known yet."""
        return self.lanes.unknown + self._attribution.waiting

    @property
    def waiting_for(self) -> str:
        """Why events wait, naming the dependency; "" while none do."""
        return self._questions.obstacle

    @property
    def full(self) -> bool:
        """True when the caller should wait for `room` before it reads on."""
        return self.backlog.full

    def route(self, frame: Frame, ledger: ShardLedger, tell: Tell | None = None) -> bool:
        """Take one dispatch frame; returns at once, False when there is nothing to do with it.

        A caller that can hold its source back awaits `room` whenever the router is `full`. One that handles
        events itself gives `tell`: it is told the side of what was taken, mostly before this returns.
        """
        if frame.op != DISPATCH or not ledger.receive(frame.seq):
            return False
        guild_id = frame.guild_id
        if guild_id is None:
            return self._route_guildless(frame, ledger, tell)
        if frame.type in TEACHES:
            self.channels.learn(frame)
            if frame.is_own_interaction:
                return self._handled(frame, ledger, tell)
        lane = self.lanes[guild_id]
        event = Event(frame, ledger, lane, tell)
        self.backlog.add(len(frame.raw))
        if tell is not None:
            self._tell(event)
        if lane.first is None:
            lane.first = event
            self._start(event)
        else:
            lane.add(event)
        return True

    def _route_guildless(self, frame: Frame, ledger: ShardLedger, tell: Tell | None) -> bool:
        waits = frame.hints is not None and not self._attribution.attribute(frame)
        if not waits and is_handled_here(frame):
            return self._handled(frame, ledger, tell)
        event = Event(frame, ledger, self.lanes[frame.attributed_to or GUILDLESS], tell)
        self.backlog.add(len(frame.raw))
        if waits:
            self._attribution.wait(event)
            return True
        if tell is not None:
            self._tell(event)
        if event.lane.add(event):
            self._start(event)
        return True

    def _handled(self, frame: Frame, ledger: ShardLedger, tell: Tell | None) -> bool:
        ledger.done(frame.seq)
        if tell is not None:
            tell(HANDLED)
        return True

    def judge(self, frame: Frame, tell: Tell) -> None:
        """Tell where a dispatch frame goes that is not to be published here, or not yet.

        If it is routed after all, it goes there.
        """
        waits = frame.guild_id is None and frame.hints is not None and not self._attribution.attribute(frame)
        if not waits and is_handled_here(frame):
            tell(HANDLED)
            return
        event = Event(frame, _NOBODYS, self.lanes[frame.guild_id or frame.attributed_to or GUILDLESS], tell)
        if waits:
            self.backlog.add(len(frame.raw))
            self._attribution.wait(event)
        else:
            self._tell(event)

    def count_dropped(self, reason: str) -> None:
        """A frame never came here because it can't be routed; `reason` is one of a fixed set."""
        self._metrics.dropped[reason] += 1

    async def close(self) -> None:
        """Stop deciding; what is not acknowledged by now is left to Discord's replay."""
        await self._attribution.close()
        await self._questions.close()
        for lane in self.lanes.values():
            lane.tell_nobody_knows()

    # Losing a session

    def discard(self, ledger: ShardLedger) -> list[Frame]:
        """Drop the session's events, unacknowledged; other sessions' go on. Returns their frames.

        Those whose guild is still being asked for are dropped when the answer comes.
        """
        if self._publisher is None:
            raise RuntimeError("a router without publisher has no sessions to lose")
        ledger.lose()
        for publication in self._publisher.in_flight():
            event = publication.context
            if isinstance(event, Event) and event.ledger is ledger:
                self._publisher.withdraw(publication)
        discarded: list[Frame] = []
        for lane in list(self.lanes.values()):
            was_sent = lane.is_sent
            events, first_is_new = lane.discard(ledger)
            self.backlog.take_off(len(events), sum(len(event.frame.raw) for event in events))
            discarded += [event.frame for event in events]
            if first_is_new and was_sent:
                if lane.first is not None:
                    self._start(lane.first)
                if lane.paused:
                    self.on_drained()
        return sorted(discarded, key=lambda frame: frame.seq)

    # Switching a guild's route

    def pause(self, guild_ids: Collection[str]) -> None:
        """Publish nothing of these guilds that comes from now on until `resume`."""
        self.keep_side(guild_ids)
        for guild_id in guild_ids:
            lane = self.lanes[guild_id]
            lane.pause()
            self._questions.void(lane)

    def keep_side(self, guild_ids: Collection[str]) -> None:
        """What is here of these guilds goes by the routes as they are now, whatever changes next."""
        table = self._table()
        if table is not None:
            for guild_id in guild_ids:
                if guild_id in self.lanes:
                    self.lanes[guild_id].keep_side(table, self._now())

    def in_flight(self, guild_id: str) -> bool:
        """True while an event of the guild is on its way: published and not acknowledged."""
        return guild_id in self.lanes and self.lanes[guild_id].is_sent

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Return when no event of these guilds waits for an answer to where it goes."""
        await self._questions.over([self.lanes[guild_id] for guild_id in guild_ids if guild_id in self.lanes])

    async def about_to_switch(self) -> None:
        """Save what has to be saved before drained guilds' routes change."""
        for action in self.before_switch:
            await action()

    def resume(self, guild_ids: Collection[str]) -> None:
        """Go on with these guilds, by the routes as they are now."""
        table = self._table()
        lanes = [self.lanes[guild_id] for guild_id in guild_ids if guild_id in self.lanes]
        for lane in lanes:
            lane.resume()
        for lane in lanes:
            if table is not None:
                lane.tell_waiting(table, self._now())
            elif lane.has_untold:
                self._questions.ask(lane)
            if lane.first is not None and not lane.is_sent:
                self._start(lane.first)

    # Deciding

    def _table(self) -> RouteTable | None:
        return self._trusted.at(self._monotonic())

    def _tell(self, event: Event) -> None:
        self._metrics.table_lookups += 1
        lane = event.lane
        table = self._table() if lane.guild_id else _NO_ROUTES
        if not lane.tell(event.frame, event.decided, table, self._now()) and not lane.paused:
            self._questions.ask(lane)

    def _attributed(self, event: Event) -> None:
        """The event's guild was found, or nobody can tell it."""
        event.lane = self.lanes[event.frame.attributed_to or GUILDLESS]
        if event.tell is not None:
            self._tell(event)
        if event.ledger.lost:
            self.backlog.take_off(1, len(event.frame.raw))
        elif is_handled_here(event.frame):
            event.ledger.done(event.frame.seq)
            self.backlog.take_off(1, len(event.frame.raw))
        elif event.lane.add(event):
            self._start(event)

    def _start(self, event: Event) -> None:
        """The event is its lane's first, and nothing of the lane is in flight: decide it and publish."""
        lane, frame = event.lane, event.frame
        if lane.is_special or frame.guild_id is None or frame.decided is not None:
            self._start_otherwise(event)
            return
        trusted = self._trusted
        table = trusted.table
        if table is None or self._monotonic() >= trusted.until:
            self._hold(event)
            return
        self._metrics.table_lookups += 1
        shard = event.ledger.shard
        label = lane.label(frame.type, shard, table, self._now)
        if label is None:
            destination = decide(frame, table, self._now())
            label = self._messages.label(frame, shard, destination)
            if destination == lane.destination:
                lane.keep_label(frame.type, label)
        else:
            destination = lane.destination
        self._publish(event, destination, label)

    def _start_otherwise(self, event: Event) -> None:
        """As `_start`, for what is rare."""
        lane, frame = event.lane, event.frame
        # It may have been judged before it was routed, and been told only since.
        destination: Destination | None = event.destination or frame.decided
        if destination is None and lane.paused and lane.old_routes is None:
            return
        if destination is None:
            table = lane.old_routes if lane.guild_id else _NO_ROUTES
            if table is None:
                table = self._table()
                if table is None:
                    self._hold(event)
                    return
                self._metrics.table_lookups += 1
                lane.tell_waiting(table, self._now())
            destination = event.destination or frame.decided or decide(frame, table, self._now())
        self._publish(event, destination, self._messages.label(frame, event.ledger.shard, destination))

    def _hold(self, event: Event) -> None:
        self._metrics.held += 1
        self._questions.ask(event.lane)

    def _answered(self, lane: Lane, table: RouteTable) -> None:
        """The table is right for this lane now."""
        lane.tell_waiting(table, self._now())
        event = lane.first
        if event is not None and not lane.is_sent:
            frame = event.frame
            destination = event.destination or frame.decided or decide(frame, table, self._now())
            self._publish(event, destination, self._messages.label(frame, event.ledger.shard, destination))

    # Publishing

    def _publish(self, event: Event, destination: Destination, label: Label) -> None:
        if self._publisher is None:
            raise RuntimeError("an event is to be published without a publisher")
        event.destination = destination
        event.lane.is_sent = True
        frame = event.frame
        message_id = f"{event.ledger.id_prefix}{frame.seq}"
        self._publisher.submit(Publication(label, message_id, frame.raw, event))

    def acknowledged(self, publications: Sequence[Publication]) -> None:
        """JetStream has these events: their frames are done, and the next ones of their lanes may go."""
        size = 0
        for publication in publications:
            event = publication.context
            if not isinstance(event, Event):
                raise TypeError("not a publication of this router")
            frame, lane = event.frame, event.lane
            size += len(frame.raw)
            event.ledger.done(frame.seq)
            following = lane.off()
            try:
                if following is not None:
                    self._start(following)
                if lane.paused:
                    self.on_drained()
            except Exception:
                # Whatever is wrong with what follows, the other acknowledgements have to be heard.
                _log.exception("acknowledgement_not_followed", type=frame.type)
        self.activity.acknowledged(publications, self._monotonic())
        self.backlog.take_off(len(publications), size)

    def attempt_failed(self, reason: str) -> None:
        """The publisher will try again; count it."""
        self._metrics.error(reason)


def _nothing() -> None:
    """Nobody switches routes."""
