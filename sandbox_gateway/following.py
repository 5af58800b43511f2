"""Follows the table of sandboxes: who runs, with which servers and which credentials, and who has ended."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from asyncpg.pool import PoolConnectionProxy

from sandbox_core import tasks
from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.credentials import CredentialsKey
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox
from sandbox_core.postgres import production as production_token
from sandbox_core.postgres import sandboxes
from sandbox_core.postgres.channels import channel
from sandbox_core.postgres.kept_connection import KeptConnection
from sandbox_core.postgres.pool import Pool
from sandbox_core.postgres.production import TokenRow
from sandbox_core.postgres.routes import CHANNEL

from . import tokens
from .tenants import AllBut, Production, TablesStale, Tenant

_log = structlog.get_logger("sandbox.client_gateway")

_READ_WITHIN = 3.0
_AGAIN_AFTER = 0.5

Changed = Callable[[UUID, Tenant | Production | None], None]
"""Told a sandbox that has changed, or production, and what it is now: None when it has ended."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the table is read, and for how long it is believed without an answer, in seconds.

    A rotation is told by nobody: it is seen at the next reading.
    """

    every: float = 0.4
    stale_after: float = 6.0


class FollowedTenants:
    """Reads the running sandboxes again and again, and whenever PostgreSQL tells of a changed route."""

    def __init__(
        self,
        pool: Pool,
        key: CredentialsKey,
        *,
        pace: Pace = Pace(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`monotonic` is in seconds."""
        self._key = key
        self._pace = pace
        self._clock = clock
        self._monotonic = monotonic
        self._kept = KeptConnection(pool, prepare=self._listen, restore=self._listen_no_more)
        self._channel = ""
        self._rows: dict[str, Sandbox] = {}
        """Running sandboxes by their short ids."""
        self._tenants: dict[UUID, Tenant] = {}
        self._token: TokenRow | None = None
        """Production's."""
        self._production: Production | None = None
        self._read_at = -math.inf
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.on_change: list[Changed] = []

    async def start(self) -> None:
        """Begin to follow. The table may not be known yet when this returns."""
        for turn in (self._follow, self._expire):
            work = tasks.repeat(turn, failed=_failed, pause=_AGAIN_AFTER)
            self._tasks.append(asyncio.create_task(work, name="tenants"))

    async def close(self) -> None:
        """Follow no more."""
        ending, self._tasks = self._tasks, []
        await tasks.end(*ending)
        await self._kept.give_back()

    @property
    def stale(self) -> bool:
        """True when the control plane has not answered for too long."""
        return self._monotonic() - self._read_at > self._pace.stale_after

    def current(self, sandbox_id: UUID) -> Tenant | None:
        """See `Tenants`."""
        tenant = self._tenants.get(sandbox_id)
        return tenant if tenant is not None and self._clock() < tenant.expires_at else None

    @property
    def production(self) -> Production | None:
        """See `Tenants`."""
        return self._production

    def by_guild(self, guild_id: str) -> Tenant | None:
        """Return the running sandbox that has the guild, without I/O; None when none has it."""
        found = next((each for each in self._tenants.values() if guild_id in each.guild_ids), None)
        return None if found is None else self.current(found.sandbox_id)

    async def by_token(self, token: str) -> Tenant | Production | None:
        """See `Tenants`."""
        presented = tokens.read(token)
        if presented is None:
            return None
        found = self._holder(presented)
        if found is None:
            # It may be a moment old.
            await self.refresh()
            found = self._holder(presented)
        elif self.stale and isinstance(found, Tenant):
            raise TablesStale
        return found

    def _holder(self, presented: tokens.PresentedToken) -> Tenant | Production | None:
        if presented.short_id is None:
            known = self._token is not None and presented.is_of_production(self._token, self._key)
            return self._production if known else None
        row = self._rows.get(presented.short_id)
        if row is None or not presented.is_of(row, self._key):
            return None
        current = self.current(row.id)
        return replace(current, guest=presented.guest) if current is not None and presented.guest else current

    async def refresh(self) -> None:
        """Return after a reading that began later than now. Raises `TablesStale` without one."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wake.set()
        try:
            async with asyncio.timeout(_READ_WITHIN):
                await done
        except TimeoutError:
            raise TablesStale from None

    async def _follow(self) -> None:
        try:
            while True:
                self._wake.clear()
                waiting, self._waiting = self._waiting, []
                try:
                    connection = await self._kept.get()
                    began_at = self._monotonic()
                    async with asyncio.timeout(_READ_WITHIN):
                        found = await sandboxes.running(connection)
                        token = await production_token.read(connection)
                except BaseException:
                    self._waiting = waiting + self._waiting
                    raise
                self._read_at = began_at
                self._token = token
                self._take(found)
                for done in waiting:
                    if not done.done():
                        done.set_result(None)
                try:
                    async with asyncio.timeout(self._pace.every):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        except (DependencyUnavailable, TimeoutError) as error:
            reason = error.reason if isinstance(error, DependencyUnavailable) else "no answer in time"
            if self.stale:
                _log.warning("tenants_stale", dependency="PostgreSQL", reason=reason)
            await self._kept.give_back()
            await asyncio.sleep(_AGAIN_AFTER)

    async def _expire(self) -> None:
        """End what expires, also while PostgreSQL does not answer."""
        await asyncio.sleep(self._pace.every)
        now = self._clock()
        if any(now >= each.expires_at for each in self._tenants.values()):
            self._changed({key: each for key, each in self._tenants.items() if now < each.expires_at})

    def _take(self, found: list[Sandbox]) -> None:
        self._rows = {each.short_id: each for each in found}
        now = self._clock()
        self._changed({each.id: _tenant(each) for each in found if now < each.expires_at})

    def _changed(self, tenants: Mapping[UUID, Tenant]) -> None:
        before, self._tenants = self._tenants, dict(tenants)
        for sandbox_id in before.keys() | tenants.keys():
            now = tenants.get(sandbox_id)
            if before.get(sandbox_id) != now:
                self._tell(sandbox_id, now)
        had = frozenset().union(*(each.guild_ids for each in tenants.values()))
        token = self._token
        valid = token is not None and tokens.is_valid(token, self._key)
        production = Production(token.generation, AllBut(had)) if token is not None and valid else None
        if production != self._production:
            self._production = production
            self._tell(PRODUCTION, production)

    def _tell(self, sandbox_id: UUID, now: Tenant | Production | None) -> None:
        for told in self.on_change:
            told(sandbox_id, now)

    async def _listen(self, connection: PoolConnectionProxy[Any]) -> None:
        self._channel = await channel(connection, CHANNEL)
        await connection.add_listener(self._channel, self._on_notice)

    async def _listen_no_more(self, connection: PoolConnectionProxy[Any]) -> None:
        await connection.remove_listener(self._channel, self._on_notice)

    def _on_notice(self, *_: object) -> None:
        self._wake.set()


def _tenant(sandbox: Sandbox) -> Tenant:
    return Tenant(
        sandbox_id=sandbox.id,
        name=sandbox.name,
        owner=sandbox.owner,
        credentials=sandbox.generation,
        level=sandbox.rest_level,
        guild_ids=frozenset(sandbox.guild_ids),
        expires_at=sandbox.expires_at,
        guests=frozenset(sandbox.guests),
    )


def _failed() -> None:
    _log.exception("tenants_not_followed")
