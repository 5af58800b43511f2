"""Decide and publish: every dispatch frame goes to exactly one subject, in order per guild.

A lane is one guild's events (or those without a guild). It has at most one publication in flight:
JetStream stores what it accepts, and after a refusal, a leader change or a lost connection nobody can
say whether a later message was stored while an earlier one was not. Waiting for the acknowledgement
before the next one of the same guild is what keeps the order through all of these; different guilds'
events are in flight together. One guild can so publish as many events a second as acknowledgements come
back one after the other, which on a local network is over a thousand; Discord sends far fewer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.events import DISPATCH, Frame
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.nats.publisher import Publication
from sandbox_core.routing import Destination, RouteTable, Side, decide

from .activity import Activity
from .channels import ChannelOwners
from .ledger import ShardLedger

_log = structlog.get_logger("sandbox.router")

_GUILDLESS = ""
_HOLD_PAUSE = 0.25
_INTAKE_BATCH = 1000
_BAD_TYPE = "BAD_TYPE"
# Bytes of frames held at most, next to the number of frames: a GUILD_CREATE can be megabytes.
_MAX_PENDING_BYTES = 128 * 1024 * 1024


class Routes(Protocol):
    """Where the router learns the routes; see `RouteProvider`."""

    @property
    def current_table(self) -> RouteTable | None: ...

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable: ...


class Publisher(Protocol):
    """Publishes until acknowledged; see `AckPublisher`."""

    def submit(self, publication: Publication) -> None: ...


class _Event:
    """A frame the router has taken responsibility for."""

    __slots__ = ("destination", "frame", "lane", "ledger", "size")

    def __init__(self, frame: Frame, ledger: ShardLedger) -> None:
        self.frame = frame
        self.ledger = ledger
        self.lane = frame.guild_id or frame.attributed_to or _GUILDLESS
        self.size = len(frame.raw)
        self.destination: Destination | None = None


class EventRouter:
    """Takes frames, decides each one's destination and keeps it until JetStream has acknowledged it.

    `now` is in seconds since the epoch and judges expiry; `monotonic` is in seconds and measures.
    """

    def __init__(
        self,
        routes: Routes,
        metrics: RoutingMetrics,
        *,
        max_pending: int,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self._metrics = metrics
        self._max_pending = max_pending
        self._now = now
        self._monotonic = monotonic
        self._publisher: Publisher | None = None
        self._channels = ChannelOwners()
        self._lanes: dict[str, deque[_Event]] = {}
        self._intake: deque[_Event] = deque()
        self._intake_task: asyncio.Task[None] | None = None
        self._pending = 0
        self._pending_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.activity = Activity(now)
        """How busy guilds and sandboxes were in the last minute."""
        self.waiting_for: str = ""
        """Why events wait, naming the dependency; "" while none do."""

    def attach(self, publisher: Publisher) -> None:
        """Give the publisher; the publisher in turn reports to this router."""
        self._publisher = publisher

    @property
    def pending(self) -> int:
        """Frames taken and not yet acknowledged."""
        return self._pending

    @property
    def held(self) -> int:
        """Frames whose side is not known yet."""
        return len(self._intake)

    @property
    def full(self) -> bool:
        """True when the caller should wait for `room` before it reads on."""
        return not self._room.is_set()

    def route(self, frame: Frame, ledger: ShardLedger) -> None:
        """Take one dispatch frame; returns at once.

        A caller that can hold its source back awaits `room` whenever the router is `full`.
        """
        if frame.op != DISPATCH or not ledger.receive(frame.seq):
            return
        if frame.guild_id is not None:
            self._channels.learn(frame)
        elif frame.hints is not None:
            frame.attributed_to = self._channels.owner(frame)
        event = _Event(frame, ledger)
        self._pending += 1
        self._pending_bytes += event.size
        self._idle.clear()
        if self._pending >= self._max_pending or self._pending_bytes >= _MAX_PENDING_BYTES:
            self._room.clear()
        table = self._routes.current_table
        if table is None or self._intake:
            # Behind a held event everything waits, or a guild's order would be lost.
            self._hold(event)
            return
        if event.lane:
            self._metrics.table_lookups += 1
        self._dispatch(event, table)

    def count_dropped(self, reason: str) -> None:
        """A frame never came here because it can't be routed; `reason` is one of a fixed set."""
        self._metrics.dropped[reason] += 1

    async def room(self) -> None:
        """Return when the router takes more frames."""
        await self._room.wait()

    async def idle(self) -> None:
        """Return when every frame taken is acknowledged or handled."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop deciding; what is not acknowledged by now is left to Discord's replay."""
        if self._intake_task is not None:
            self._intake_task.cancel()
            await asyncio.gather(self._intake_task, return_exceptions=True)

    # Deciding

    def _dispatch(self, event: _Event, table: RouteTable) -> None:
        event.destination = decide(event.frame, table, self._now())
        if event.destination.side is Side.HANDLED:
            self._finished(event)
            return
        lane = self._lanes.get(event.lane)
        if lane is not None:
            lane.append(event)
            return
        self._lanes[event.lane] = deque()
        self._publish(event)

    def _hold(self, event: _Event) -> None:
        self._intake.append(event)
        self._metrics.held += 1
        if self._intake_task is None or self._intake_task.done():
            self._intake_task = asyncio.get_running_loop().create_task(
                self._settle_held(), name="router-intake"
            )

    async def _settle_held(self) -> None:
        while self._intake:
            batch = [self._intake[index] for index in range(min(len(self._intake), _INTAKE_BATCH))]
            try:
                table = await self._routes.resolve({event.lane for event in batch if event.lane})
            except DependencyUnavailable as error:
                if not self.waiting_for:
                    _log.warning("events_held", dependency=error.dependency, reason=error.reason)
                self.waiting_for = f"{error.dependency}: {error.reason}"
                await asyncio.sleep(_HOLD_PAUSE)
                continue
            if self.waiting_for:
                _log.info("events_released", held=len(self._intake))
                self.waiting_for = ""
            for event in batch:
                self._intake.popleft()
                self._dispatch(event, table)

    # Publishing

    def _publish(self, event: _Event) -> None:
        frame, destination = event.frame, event.destination
        if destination is None or self._publisher is None:
            raise RuntimeError("an event is published before it is decided, or without a publisher")
        shard = str(event.ledger.shard_id)
        headers = {
            "Nats-Msg-Id": f"{event.ledger.session_id}:{shard}:{frame.seq}",
            "Nats-Expected-Stream": destination.stream,
            "Discord-Event": frame.type,
            "Discord-Shard": shard,
        }
        if frame.guild_id is not None:
            headers["Discord-Guild-Id"] = frame.guild_id
        if destination.sandbox_id is not None:
            headers["Sandbox-Id"] = destination.sandbox_id
        token = frame.type
        if destination.side is Side.DEAD_LETTER:
            # The event name is no subject token, so it can't stand in a header either.
            token = headers["Discord-Event"] = _BAD_TYPE
        self._publisher.submit(Publication(destination.prefix + token, frame.raw, headers, event))

    def acknowledged(self, publication: Publication) -> None:
        """JetStream has the event: its frame is done, and the next one of its lane may go."""
        event = publication.context
        if not isinstance(event, _Event) or event.destination is None:
            raise TypeError("not a publication of this router")
        self._metrics.routed[event.destination.side] += 1
        self._metrics.route_seconds.observe(self._monotonic() - event.frame.received_at)
        if event.frame.type != "GUILD_CREATE":
            # Every new session brings one per guild: that is no sign of life in the guild.
            self.activity.count(event.lane or None, event.destination.sandbox_id)
        self._finished(event)
        lane = self._lanes[event.lane]
        if lane:
            self._publish(lane.popleft())
        else:
            del self._lanes[event.lane]

    def attempt_failed(self, reason: str) -> None:
        """The publisher will try again; count it."""
        self._metrics.error(reason)

    def _finished(self, event: _Event) -> None:
        event.ledger.done(event.frame.seq)
        self._pending -= 1
        self._pending_bytes -= event.size
        if self._pending == 0:
            self._idle.set()
        if not self._room.is_set() and self._has_room():
            self._room.set()

    def _has_room(self) -> bool:
        # Half empty before it reads on: waking the reader for every single event costs more.
        return self._pending <= self._max_pending // 2 and self._pending_bytes <= _MAX_PENDING_BYTES // 2
