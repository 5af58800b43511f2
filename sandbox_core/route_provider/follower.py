"""The link to PostgreSQL that keeps the route table current.

A notification only says which guild changed; its route is then read again. The table so moves from one
committed truth to the next, in whatever order notifications arrive.

The table is trusted while the link is known to stand: for some seconds after the sending of the last
heartbeat that was answered. The age is judged whenever the table is used, so that a process that was
stopped as a whole does not go on with what it knew before. See `sandbox_core.postgres.switches` for what
rests on it.

Without the link, what is known of each guild is kept with its moment, so that something older that is found
elsewhere is not taken for news; see `Freshness`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable, NotMigrated
from sandbox_core.models import DatedRoute, Route
from sandbox_core.postgres import routes as route_rows
from sandbox_core.postgres import switches
from sandbox_core.postgres.channels import channel
from sandbox_core.postgres.errors import DRIVER_ERRORS, unavailable
from sandbox_core.postgres.pool import Connection
from sandbox_core.postgres.processes import GatewayProcess, announce
from sandbox_core.postgres.told import Told
from sandbox_core.routing import RouteTable

from .switch import Gate, RouteSwitch

_log = structlog.get_logger("sandbox.routes")

_PAUSES = (0.05, 0.1, 0.25, 0.5, 1.0)
_ATTEMPTS_PER_LOG_LINE = 30
_READ_WITHIN = 10.0
_LINK_LOST = (*DRIVER_ERRORS, DependencyUnavailable)


class RouteFollower:
    """Follows the routes over one PostgreSQL connection of its own.

    `heartbeat` is in seconds: how often the link is tried, and how long it may take to answer. With
    `process`, that process is announced by each heartbeat, and confirms the switches it is asked for. `where`
    is the server's host and port, for the sentences about it.
    `monotonic` is in seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
        *,
        process: GatewayProcess | None = None,
        where: str = "",
        heartbeat: float = 2.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._process = process
        self._where = where
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._switch = RouteSwitch()
        self.trusted = self._switch.trusted
        """The last table known, and until when it is what PostgreSQL says."""
        self._listening = False
        self._linked = False
        self._in_vain = 0
        """How often a link could not be made since one stood."""
        self._beaten_at = -math.inf
        self.trouble = ""
        """Why the table is not current, as a short sentence; "" while it is."""
        self.on_read: Callable[[Mapping[str, DatedRoute]], None] = lambda routes: None
        """Told the routes that were read because they had changed."""
        self._moment = -math.inf
        """The database's time at the last heartbeat that was answered."""
        self._told: dict[str, tuple[float, DatedRoute]] = {}
        """By guild: when an announcement was heard (monotonic), and what it said."""
        self._learned: dict[str, DatedRoute] = {}
        self._answers: list[UUID] = []
        self._notified = Told(monotonic=monotonic)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def attach(self, gate: Gate) -> None:
        """Switch no guild while this has anything of it in flight."""
        self._switch.attach(gate)

    def start(self) -> None:
        """Begin to follow; returns at once, whether PostgreSQL is there or not."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="route-follower")

    async def close(self) -> None:
        """Stop following; the last table stays."""
        if self._task is not None:
            await tasks.end(self._task)
            self._task = None
        await self._switch.close()

    @property
    def table(self) -> RouteTable | None:
        """The last table known; None before the first full read."""
        return self._switch.table

    @property
    def current(self) -> bool:
        """True while the link stands, and `table` is what PostgreSQL says."""
        return self._monotonic() < self.trusted.until

    async def refresh(self, guild_ids: Collection[str]) -> None:
        """Return when the table shows what PostgreSQL now says of these guilds.

        Raises `DependencyUnavailable` when the link is down or goes down meanwhile.
        """
        if not self._linked:
            raise DependencyUnavailable("PostgreSQL", "the route notifications are interrupted")
        done = self._switch.when_known(guild_ids)
        self._wake.set()
        await done

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Return when no event of these guilds waits for its side."""
        await self._switch.settled(guild_ids)

    # What is known and what is heard while the link is down or silent

    def database_now(self) -> float | None:
        """The database's time at present, as far as can be told without it; None when it never answered."""
        if self._moment == -math.inf:
            return None
        return self._moment + self._monotonic() - self._beaten_at

    def known(self, guild_id: str) -> DatedRoute | None:
        """What this process itself knew last of the guild's route; None when it knows nothing."""
        return later(self._switch.known(guild_id), self._learned.get(guild_id))

    def learn(self, routes: Mapping[str, DatedRoute]) -> None:
        """These routes were found elsewhere, and nothing older is to be believed of them any more."""
        for guild_id, dated in routes.items():
            known = self._learned.get(guild_id)
            # What is of an unknown moment may be over at any.
            if dated.as_of > -math.inf and (known is None or known.as_of <= dated.as_of):
                self._learned[guild_id] = dated

    def announced(self, routes: Mapping[str, DatedRoute]) -> None:
        """Somebody tells what was committed of these guilds.

        Counts only while the link is down or silent: over a link that stands PostgreSQL tells it itself.
        """
        now = self._monotonic()
        for guild_id, dated in routes.items():
            known = self._told.get(guild_id)
            if known is None or known[1].as_of <= dated.as_of:
                self._told[guild_id] = (now, dated)

    def told(self, guild_id: str) -> DatedRoute | None:
        """What was announced last of the guild since the link was known to stand."""
        told = self._told.get(guild_id)
        return None if told is None else told[1]

    # The link

    async def _run(self) -> None:
        def failed() -> None:
            # Without this link routes are looked up one by one for ever.
            self.trouble = "an internal error, see the log"
            _log.exception("route_link_failed")

        await tasks.repeat(self._link, failed=failed, pause=_PAUSES[-1])

    async def _link(self) -> None:
        """Connect, follow until the link is lost, and pause."""
        event = "route_link_unavailable"
        try:
            connection = await self._connect()
            event = "route_link_lost"
            try:
                await self._follow(connection)
            finally:
                self._listening = self._linked = False
                self.trusted.until = -math.inf
                self._switch.abandon()
                # The server may be gone: a polite close would wait for it.
                connection.terminate()
        except _LINK_LOST as error:
            reason = self._note(error)
            if self._in_vain % _ATTEMPTS_PER_LOG_LINE == 0:
                _log.warning(event, dependency="PostgreSQL", reason=reason)
            pause = _PAUSES[min(self._in_vain, len(_PAUSES) - 1)]
            self._in_vain += 1
            await asyncio.sleep(pause)

    def _note(self, error: BaseException) -> str:
        """Keep what hinders the link. Return it for a text that names PostgreSQL already."""
        away = error if isinstance(error, DependencyUnavailable) else unavailable(error)
        if away is None:
            self.trouble = type(error).__name__
            return self.trouble
        hint = "; `sandboxctl migrate` applies them" if isinstance(away, NotMigrated) else ""
        self.trouble = f"{away.located(self._where).named_reason}{hint}"
        return f"{away.reason}{hint}"

    async def _follow(self, connection: asyncpg.Connection[Any]) -> None:
        connection.add_termination_listener(self._on_termination)
        # Announced before anything is read: whoever changes a route after that waits for this process.
        moment = await self._beat(connection)
        self._listening = True
        # Listening first: a change that commits during the full read is told afterwards.
        await connection.add_listener(await channel(connection, route_rows.CHANNEL), self._on_change)
        if self._process is not None:
            await connection.add_listener(await channel(connection, switches.REQUESTS), self._on_request)
        async with asyncio.timeout(_READ_WITHIN):
            table = RouteTable(await route_rows.read_all(connection))
        self._read(self._switch.load(table, moment), moment)
        self._linked = True
        self._in_vain = 0
        self.trusted.until = self._beaten_at + switches.TRUSTED_FOR
        self.trouble = ""
        _log.info("routes_loaded", guilds=len(table))
        while not connection.is_closed():
            left = self._beaten_at + self._heartbeat - self._monotonic()
            if left > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._wake.wait()
            else:
                self._forget(await self._beat(connection))
            self._wake.clear()
            if self._switch.to_read:
                async with asyncio.timeout(_READ_WITHIN):
                    routes, moment = await route_rows.read_as_of(connection, self._switch.begin_reading())
                self._switch.were_read(routes, moment)
                self._read(routes, moment)
            await self._answer(connection)
        raise ConnectionResetError("PostgreSQL closed the connection")

    async def _beat(self, connection: Connection) -> float:
        sent_at = self._monotonic()
        async with asyncio.timeout(self._heartbeat):
            if self._process is None:
                moment: float = await connection.fetchval(f"SELECT {route_rows.MOMENT}")
            else:
                moment = await announce(connection, self._process)
        self._beaten_at, self._moment = sent_at, moment
        if self._linked:
            self.trusted.until = sent_at + switches.TRUSTED_FOR
        return moment

    def _forget(self, moment: float) -> None:
        """The table is known as of that moment: what was told and learned before has come over the link."""
        self._switch.confirmed(moment)
        beaten_at = self._beaten_at
        doubtful = self._switch.unknown
        self._told = {g: told for g, told in self._told.items() if told[0] >= beaten_at or g in doubtful}
        self._learned = {g: dated for g, dated in self._learned.items() if g in doubtful}

    def _read(self, routes: Mapping[str, Route | None], moment: float) -> None:
        if routes:
            self.on_read({guild_id: DatedRoute(route, moment) for guild_id, route in routes.items()})

    async def _answer(self, connection: Connection) -> None:
        answers, self._answers = self._answers, []
        if self._process is not None:
            for request in answers:
                async with asyncio.timeout(self._heartbeat):
                    await switches.answer(connection, request, self._process)

    def _on_change(self, _connection: Connection, _pid: int, _channel: str, payload: Any) -> None:
        # One may still be on its way to here when the link is given up.
        if not self._listening:
            return
        guild_id = self._notified.changed_guild(payload)
        if guild_id is not None:
            self._switch.changed([guild_id])
            self._wake.set()

    def _on_request(self, _connection: Connection, _pid: int, _channel: str, payload: Any) -> None:
        if not self._listening:
            return
        question = self._notified.question(payload)
        if question is None:
            return

        def known(done: asyncio.Future[None]) -> None:
            # A link that is lost takes the answer with it; the asker sees that none came.
            if not done.cancelled() and done.exception() is None:
                self._answers.append(question.request)
                self._wake.set()

        self._switch.when_known(question.guilds).add_done_callback(known)
        self._wake.set()

    def _on_termination(self, _connection: Connection) -> None:
        self._wake.set()


def later(one: DatedRoute | None, other: DatedRoute | None) -> DatedRoute | None:
    """Which of the two is as of the later moment; `one` when both are."""
    if one is None or other is None:
        return one or other
    return other if other.as_of > one.as_of else one
