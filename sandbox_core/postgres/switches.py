"""Asking every gateway process to confirm a change of routes, over PostgreSQL's notifications.

The asker has committed its change. It notifies `sandbox_switch` with the number of its request and the
guilds; each process reads these guilds' committed routes, switches, and notifies `sandbox_switched`. It
reads after the commit, so no version numbers are needed.

How long the asker waits is no matter of taste. A process trusts its own table for `TRUSTED_FOR` seconds
after it sent its last successful heartbeat, which cannot be later than the `seen_at` that the heartbeat
wrote. A heartbeat that PostgreSQL answers after the request brings the request with it, over the same
connection, and from that moment the process publishes nothing of the guilds until it has switched. So
`TRUSTED_FOR` after the `seen_at` found here, each process has either confirmed, or heard of the request
and stopped these guilds, or lost the trust in its table and asks Redis and PostgreSQL for every event.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import structlog
from asyncpg.pool import PoolConnectionProxy

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Switch

from .channels import channel
from .errors import translating
from .kept_connection import KeptConnection
from .pool import Connection, Pool
from .processes import GatewayProcess, live
from .told import Told

_log = structlog.get_logger("sandbox.postgres")

REQUESTS = "sandbox_switch"
ANSWERS = "sandbox_switched"
"""Channels; an installation's own are `channel(connection, …)`."""
TRUSTED_FOR = 5.0
"""Seconds after the sending of its last answered heartbeat for which a process trusts its table."""
_MARGIN = 1.0
UNTRUSTED_AFTER = TRUSTED_FOR + _MARGIN
"""Seconds after which a process that PostgreSQL can't reach has stopped trusting its table."""
_ASK_AGAIN_AFTER = 1.0
# A notification's payload has to be shorter than 8000 bytes.
_GUILDS_PER_REQUEST = 300


async def answer(connection: Connection, request: UUID, process: GatewayProcess) -> None:
    """Say that the process has switched. Driver errors pass: who holds the connection judges them."""
    await connection.execute(
        "SELECT pg_notify(sandbox_channel($1), $2)",
        ANSWERS,
        json.dumps({"request": str(request), "process": str(process.id)}),
    )


class _Request:
    """One request, and who has answered it."""

    def __init__(self, guild_ids: Collection[str]) -> None:
        self.id = uuid4()
        """Known to who heard the question only, so that nothing older is an answer to it."""
        self.guild_ids = guild_ids
        self._answers: set[tuple[UUID, int]] = set()
        """Which process is said to have switched, and by which session of PostgreSQL."""
        self.answered = asyncio.Event()
        """Set at every answer."""

    def confirm(self, process_id: UUID, backend: int) -> None:
        """An answer came."""
        self._answers.add((process_id, backend))
        self.answered.set()

    def is_confirmed_by(self, process: GatewayProcess) -> bool:
        """Whether the process itself has answered: PostgreSQL says by which session it was said."""
        return any(
            process_id == process.id and process.backend in {None, backend}
            for process_id, backend in self._answers
        )


class SwitchRequests:
    """Asks, over one connection of the pool, which it keeps only while something is asked.

    `monotonic` is in seconds.
    """

    def __init__(self, pool: Pool, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._open: dict[UUID, _Request] = {}
        self._told = Told(monotonic=monotonic)
        self._users = 0
        self._kept = KeptConnection(pool, prepare=self._listen, restore=self._listen_no_more)
        self._answers = ANSWERS
        self._turn = asyncio.Lock()

    async def ask(self, guild_ids: Collection[str]) -> Switch:
        """Have every live gateway process switch these guilds; returns when all have, or can't be trusted.

        That takes milliseconds as a rule, and at most about six seconds. Raises `DependencyUnavailable`
        when PostgreSQL is away before anybody could be asked.
        """
        requests = [_Request(batch) for batch in _batches(guild_ids)]
        async with self._listening():
            self._open.update((request.id, request) for request in requests)
            try:
                asked_at = self._monotonic()
                await self._send(requests)
                # Read after the request: of a heartbeat that was earlier the time is known here, and one
                # that is later brings the request. Who is not found reads its first routes after this.
                async with self._turn:
                    processes = await live(self._connected())
                patience = max((TRUSTED_FOR - each.silent_for for each in processes), default=0.0) + _MARGIN
                processes = await self._confirmed(requests, processes, asked_at + patience)
            finally:
                for request in requests:
                    del self._open[request.id]
        confirmed = tuple(each for each in processes if _have_confirmed(requests, each))
        unconfirmed = tuple(each.name for each in processes if each not in confirmed)
        if unconfirmed:
            _log.warning("switch_not_confirmed", processes=unconfirmed, guilds=len(guild_ids))
        return Switch(tuple(each.name for each in confirmed), unconfirmed)

    async def _confirmed(
        self, requests: list[_Request], processes: list[GatewayProcess], until: float
    ) -> list[GatewayProcess]:
        """Wait until all have confirmed; the same processes, with the sessions that they have by then."""
        ask_again_at = self._monotonic() + _ASK_AGAIN_AFTER
        while missing := [each for each in requests if not all(map(each.is_confirmed_by, processes))]:
            now = self._monotonic()
            if now >= until:
                break
            if now >= ask_again_at:
                # A process that was just connecting has not heard the first time.
                ask_again_at = now + _ASK_AGAIN_AFTER
                try:
                    await self._send(missing)
                    processes = await self._with_sessions(processes)
                except DependencyUnavailable as error:
                    # No answer can come any more. The others' trust in their tables runs out all the same.
                    _log.warning("switch_not_asked", dependency=error.dependency, reason=error.reason)
                    ask_again_at = math.inf
            missing[0].answered.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(until, ask_again_at) - now):
                    await missing[0].answered.wait()
        return processes

    async def _with_sessions(self, processes: list[GatewayProcess]) -> list[GatewayProcess]:
        """One that lost its connection answers by another one."""
        async with self._turn:
            present = {each.id: each for each in await live(self._connected())}
        return [present.get(each.id, each) for each in processes]

    async def _send(self, requests: list[_Request]) -> None:
        async with self._turn:
            with translating():
                await self._connected().executemany(
                    "SELECT pg_notify(sandbox_channel($1), $2)",
                    [
                        (REQUESTS, json.dumps({"request": str(request.id), "guilds": request.guild_ids}))
                        for request in requests
                    ],
                )

    def _on_answer(self, _connection: Connection, backend: int, _channel: str, payload: Any) -> None:
        said = self._told.answer(payload)
        request = None if said is None else self._open.get(said.request)
        if said is not None and request is not None:
            request.confirm(said.process, backend)

    # The connection

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        self._users += 1
        try:
            async with self._turn:
                await self._kept.get()
            yield
        finally:
            self._users -= 1
            if not self._users:
                await self._leave()

    def _connected(self) -> PoolConnectionProxy[Any]:
        connection = self._kept.standing
        if connection is None:
            raise DependencyUnavailable("PostgreSQL", "the connection was lost")
        return connection

    async def _listen(self, connection: PoolConnectionProxy[Any]) -> None:
        self._answers = await channel(connection, ANSWERS)
        await connection.add_listener(self._answers, self._on_answer)

    async def _listen_no_more(self, connection: PoolConnectionProxy[Any]) -> None:
        await connection.remove_listener(self._answers, self._on_answer)

    async def _leave(self) -> None:
        async with self._turn:
            # Somebody may have begun to ask meanwhile.
            if not self._users:
                await self._kept.give_back()


def _have_confirmed(requests: list[_Request], process: GatewayProcess) -> bool:
    return all(request.is_confirmed_by(process) for request in requests)


def _batches(guild_ids: Collection[str]) -> list[list[str]]:
    ordered = sorted(guild_ids)
    return [
        ordered[start : start + _GUILDS_PER_REQUEST] for start in range(0, len(ordered), _GUILDS_PER_REQUEST)
    ]
