"""One shard of this process: connects, reads, and connects again until it is stopped.

In place of discord.py's own loop, in which one failed reconnect ends the session with a fresh IDENTIFY, a
reset connection is looked for by the wrong number (errno 54; Linux says 104), and one shard's reconnect
holds up all others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import aiohttp
import discord
import structlog
import yarl

from sandbox_core import tasks
from sandbox_core.models import ResumePoint
from sandbox_core.sharding.identify import IdentifyGate
from sandbox_core.sharding.tuning import CLOSED_AT_ONCE, RECONNECT_FIRST_PAUSE

from .endings import ABNORMAL, ConnectionEndedError, Ending
from .ports import GatewayClient
from .socket import RoutedWebSocket

MayConnect = Callable[[int, bool], Awaitable[None]]
"""Returns when a shard may connect again; told whether its last connection was closed at once."""

_log = structlog.get_logger("sandbox.gateway")

_FAILURES = (OSError, TimeoutError, aiohttp.ClientError, discord.HTTPException, discord.ConnectionClosed)


class Shard:
    """Keeps one shard's session connected.

    `sleep` and `monotonic` are in seconds. `on_socket` is told of each new connection.
    """

    def __init__(
        self,
        client: GatewayClient,
        shard_id: int,
        turns: IdentifyGate,
        may_connect: MayConnect,
        on_socket: Callable[[Shard], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = shard_id
        self.trouble = "not connected to Discord"
        """Why there is no session on a standing connection; it says nothing while there is one."""
        self._client = client
        self._turns = turns
        self._may_connect = may_connect
        self._on_socket = on_socket
        self._sleep = sleep
        self._monotonic = monotonic
        self._socket: RoutedWebSocket | None = None
        self._quick_ends = 0

    @property
    def ws(self) -> RoutedWebSocket:
        """The present or last connection; discord.py looks here."""
        if self._socket is None:
            raise RuntimeError("the shard has not connected yet")
        return self._socket

    async def run(self) -> None:
        """Stay connected until cancelled, which closes resumably.

        Raises `GatewayRefusedError` when Discord says that nothing may be tried again.
        """
        while True:
            # Without room the next connection would only be held back again.
            if self._client.intake.full:
                self.trouble = "closed, to be resumed when NATS takes events again"
                await self._client.intake.room()
            began, before = self._monotonic(), self._socket
            closed = False
            try:
                await self._connection()
            except ConnectionEndedError as ended:
                closed = ended.ending is Ending.CLOSED and ended.code != ABNORMAL
                await self._after(ended)
            except _FAILURES as error:
                self.trouble = f"not connected to Discord: {type(error).__name__}"
                _log.warning("connection_failed", shard=self.id, error=type(error).__name__)
            finally:
                await self.close()
            lasted = self._monotonic() - began
            established = self._socket is not None and self._socket is not before and self._socket.established
            await self._pause(lasted, established=established)
            await self._may_connect(self.id, closed and lasted < CLOSED_AT_ONCE)

    async def close(self) -> None:
        """Close the connection, resumably; it is made again unless `run` is cancelled."""
        if self._socket is not None:
            await self._socket.close()

    async def _connection(self) -> None:
        point = self._client.sessions.of(self.id).resume_point()
        steady: asyncio.Task[None] | None = None
        try:
            if point is None:
                async with self._turns.turn(self.id):
                    await self._open(None)
                steady = asyncio.create_task(self._note_when_steady())
            else:
                await self._resume(point)
            while True:
                await self.ws.poll_event()
        finally:
            if steady is not None:
                await tasks.end(steady)

    async def _resume(self, point: ResumePoint) -> None:
        session = self._client.sessions.of(self.id)
        session.resuming(point)
        try:
            await self._open(point)
        except ConnectionEndedError as ended:
            if ended.ending not in {Ending.CLOSED, Ending.GARBLED} or ended.session_lost:
                raise
        except _FAILURES as error:
            _log.info("resume_failed", shard=self.id, error=type(error).__name__)
        else:
            return
        # Discord's resume addresses die; clients that insist on one stay away for hours.
        normal = str(self._client.gateway_url.with_query(yarl.URL(point.resume_url).query))
        _log.warning("resume_url_failed", shard=self.id)
        session.use_instead(normal)
        await self._open(replace(point, resume_url=normal))

    async def _open(self, point: ResumePoint | None) -> None:
        self._socket = await RoutedWebSocket.connect(self._client, self.id, point)
        self._on_socket(self)

    async def _note_when_steady(self) -> None:
        await self._sleep(self._client.tuning.steady_after)
        await self._turns.stayed_up(self.id)

    async def _after(self, ended: ConnectionEndedError) -> None:
        self.trouble = f"not connected to Discord: {ended}"
        _log.info("connection_ended", shard=self.id, reason=str(ended))
        if ended.session_lost:
            await self._client.sessions.ended(self.id)

    async def _pause(self, lasted: float, *, established: bool) -> None:
        """Wait before the next attempt: not at all once, then longer and longer while it helps nothing."""
        tuning = self._client.tuning
        self._quick_ends = 0 if established and lasted >= tuning.steady_after else self._quick_ends + 1
        if self._quick_ends <= 1:
            return
        longest = tuning.longest_pause_in_storm if established else tuning.longest_pause
        pause = min(RECONNECT_FIRST_PAUSE * 2.0 ** min(self._quick_ends - 2, 10), longest)
        await self._sleep(pause * random.uniform(0.5, 1.0))
