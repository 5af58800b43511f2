"""Decide and publish: every dispatch frame goes to exactly one subject, in order per guild.

One guild can publish as many events a second as acknowledgements come back one after the other, which on a
local network is over a thousand; Discord sends far fewer. Different guilds' events are in flight together.
See `Lane` for how one guild's events keep their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from sandbox_core.attribution import TEACHES, Attribution, ChannelGuilds, ChannelLookup
from sandbox_core.events import DISPATCH, Frame
from sandbox_core.metrics import Drop, RoutingMetrics
from sandbox_core.nats.publication import Publication, Publisher
from sandbox_core.nats.wire import Label
from sandbox_core.routing import HANDLED, Destination, RouteTable, decide, is_handled_here
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames

from .activity import Activity
from .budget import BudgetLimits, SandboxBudgets
from .lane import GUILDLESS, Event, Lane, Lanes, Tell
from .ledger import Backlog, ShardLedger
from .messages import Messages
from .route_questions import RouteQuestions, Routes
from .sandbox_side import SandboxSide
from .switching import Switching

_log = structlog.get_logger("sandbox.router")

DEFAULT_LIMITS = BudgetLimits()
_NO_ROUTES = RouteTable()
_NOBODYS = ShardLedger("", 0)
"""The bookkeeping of what is not published here."""
_NOBODYS.lose()


class EventRouter:
    """Takes frames, decides each one's destination and keeps it until JetStream has acknowledged it.

    `max_pending` bounds production's events, `sandbox_limits` those of sandboxes.
    `lookup` asks beyond this process for the guild of an event that names none. `names` are the streams'.
    `now` is in seconds since the epoch and judges expiry; `monotonic` is in seconds and measures.
    """

    def __init__(
        self,
        routes: Routes,
        metrics: RoutingMetrics,
        *,
        max_pending: int,
        sandbox_limits: BudgetLimits = DEFAULT_LIMITS,
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
        self._publishers: tuple[Publisher, ...] = ()
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
        """What was taken and is not acknowledged; its limit is production's."""
        budgets = SandboxBudgets(sandbox_limits, metrics.sandbox_dropped, now=now, monotonic=monotonic)
        self.sandboxes = SandboxSide(
            budgets, self.backlog, start=self._start, drained=self._drained, table=self._table, now=now
        )
        """Their events' budgets."""
        self.room, self.idle = self.backlog.room, self.backlog.idle
        """Return when the router takes more frames; when every frame taken is acknowledged or handled."""
        self.joining, self.joined = self.backlog.joining, self.backlog.joined
        """Told of a shard when events that were kept of it are about to come; when they came or will not."""
        self.activity = Activity(now, metrics)
        """How busy guilds and sandboxes were in the last minute."""
        self.switching = Switching(self.lanes, self._questions, start=self._start, table=self._table, now=now)
        """Keeps guilds' events back while their routes change."""

    def attach(self, publisher: Publisher, sandboxes: Publisher | None = None) -> None:
        """Give the publisher, and the sandboxes' if that is another; they in turn report to this router."""
        self._publisher = publisher
        self._publishers = (publisher,) if sandboxes is None else (publisher, sandboxes)
        self.sandboxes.attach(sandboxes or publisher)

    @property
    def pending(self) -> int:
        """Frames taken and not yet acknowledged."""
        return self.backlog.count + self.backlog.beside

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
        if lane.charges and not lane.is_special:
            backlog = self.backlog
            if backlog.beside:
                backlog.beside += 1
            else:
                backlog.add_beside()
            event.borne_by = lane.charges
            if lane.first is not None:
                self.sandboxes.waits(event)
        else:
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
        for publisher in self._publishers:
            for publication in publisher.in_flight():
                event = publication.context
                if isinstance(event, Event) and event.ledger is ledger:
                    publisher.withdraw(publication)
        discarded: list[Frame] = []
        for lane in list(self.lanes.values()):
            was_sent = lane.is_sent
            events, first_is_new = lane.discard(ledger)
            for event in events:
                if event.borne_by:
                    self.sandboxes.remove(event)
                else:
                    self.backlog.take_off(1, len(event.frame.raw))
            discarded += [event.frame for event in events]
            if first_is_new and was_sent:
                if lane.first is not None:
                    self._start(lane.first)
                if lane.paused:
                    self.switching.on_drained()
        return sorted(discarded, key=lambda frame: frame.seq)

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
        lane = event.lane
        event.destination = destination
        lane.is_sent = True
        frame = event.frame
        message_id = f"{event.ledger.id_prefix}{frame.seq}"
        publication = Publication(label, message_id, frame.raw, event)
        sandbox_id = destination.sandbox_id
        if sandbox_id is not None:
            self.sandboxes.publish(event, sandbox_id, publication)
            return
        if event.borne_by:
            self.sandboxes.give_back(event)
        lane.charges = ""
        self._publisher.submit(publication)

    def acknowledged(self, publications: Sequence[Publication]) -> None:
        """JetStream has these events: their frames are done, and the next ones of their lanes may go."""
        count = size = 0
        budgets = self.sandboxes.budgets
        for publication in publications:
            event = publication.context
            if not isinstance(event, Event):
                raise TypeError("not a publication of this router")
            frame, lane = event.frame, event.lane
            if not event.borne_by:
                count += 1
                size += len(frame.raw)
            elif event.charged:
                budgets.stored(event)
            elif budgets.episodes:
                budgets.goes_on(event.borne_by)
            event.ledger.done(frame.seq)
            following = lane.off()
            try:
                if following is not None:
                    self._start(following)
                if lane.paused:
                    self.switching.on_drained()
            except Exception:
                # Whatever is wrong with what follows, the other acknowledgements have to be heard.
                _log.exception("acknowledgement_not_followed", type=frame.type)
        self.activity.acknowledged(publications, self._monotonic())
        self.backlog.beside -= len(publications) - count
        self.backlog.take_off(count, size)

    def attempt_failed(self, reason: str) -> None:
        """The publisher will try again; count it."""
        self._metrics.error(reason)

    def given_up(self, publication: Publication, reason: Drop, before: float) -> None:
        """The sandboxes' publisher will not try again: the sandbox loses the event."""
        self.sandboxes.given_up(publication, reason, before)

    def _drained(self) -> None:
        self.switching.on_drained()
