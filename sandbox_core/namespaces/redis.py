"""A sandbox's part of Redis: the keys below `sandbox:{sandbox_id}:`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from redis.asyncio import Redis

from sandbox_core.errors import SandboxError
from sandbox_core.models import Sandbox
from sandbox_core.redis.errors import translating
from sandbox_core.subjects import redis_prefix
from sandbox_core.tasks import Cancellations
from sandbox_core.templates import Template
from sandbox_core.words import counted

from .amounts import Amount, Pace
from .base import IsOrphan, PartHealth, PartState, drop_orphan
from .client_traces import ClientTraces
from .credentials import WILL_BE_MADE, Credentials
from .key_removal import KeyRemoval, scan
from .redis_amounts import OWN_KEY, measure_keys
from .redis_users import SandboxUsers

_COUNT_LIMIT = 10_000
"""The most keys that a health check counts: a big keyspace must not slow it down."""


class RedisNamespace:
    """Keys need no preparation: provisioning checks that the server answers, and makes the user if any."""

    store = "Redis"

    def __init__(
        self, redis: Redis, users: SandboxUsers | None = None, *, traces: ClientTraces | None = None
    ) -> None:
        """`redis` must decode replies to text, as a client of `create_client` does.

        `traces` is what the gateway endpoint keeps, on the control plane's server.
        """
        self._redis = redis
        self._traces = traces
        self._users = users
        self.credentials: Credentials | None = users

    async def provision(self, sandbox: Sandbox) -> None:
        """Check that Redis answers, or make the sandbox's user."""
        if self._users is not None and sandbox.generation:
            await self._provision_user(self._users, sandbox)
            return
        with translating():
            await self._redis.ping()

    async def _provision_user(self, users: SandboxUsers, sandbox: Sandbox) -> None:
        try:
            await users.make(sandbox)
        except BaseException:
            # Its answer may be lost. The caller needs its own error; a user that is left becomes an orphan.
            with suppress(SandboxError):
                await asyncio.shield(users.revoke(sandbox))
            raise

    async def drop(self, sandbox: Sandbox) -> None:
        """Remove the sandbox's user and every key. Raises `StillWritten` while a worker writes new keys."""
        if self._users is not None:
            await self._users.revoke(sandbox)
        await self.delete_keys(sandbox.id)
        if self._traces is not None:
            await self._traces.drop(sandbox.id)

    async def fill(self, _sandbox: Sandbox, _template: Template) -> None:
        """Do nothing: a template is SQL."""

    async def renew(self, sandbox: Sandbox, _template: Template | None) -> None:
        """Remove every key. The traces stay: they are of the bots' sessions, which go on.

        The user goes before, so that a worker with a login of its own writes no new keys.
        """
        if self._users is not None and sandbox.generation:
            await self._users.revoke(sandbox)
        await self.delete_keys(sandbox.id)

    async def delete_keys(self, sandbox_id: UUID) -> int:
        """Remove every key of this id in batches, which do not block the server. Return their number.

        Raises `StillWritten` while a worker writes new keys.
        """
        with translating():
            return await KeyRemoval(self._redis, redis_prefix(sandbox_id) + "*").run()

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check that Redis answers; `facts` has `keys`, and `latency_ms` is the duration of one PING."""
        with translating():
            started = time.perf_counter()
            await self._redis.ping()
            latency = (time.perf_counter() - started) * 1000
            keys, exact = await self._count(redis_prefix(sandbox.id) + "*")
        detail = counted(keys, "key", "keys") if exact else f"{keys} keys or more"
        facts: dict[str, int | float | str] = {"prefix": redis_prefix(sandbox.id), "keys": keys}
        if self._users is not None and await self._users.lacking([sandbox]):
            lacks = f"{detail}; its login {WILL_BE_MADE}"
            return PartHealth(self.store, PartState.DEGRADED, lacks, latency, facts)
        return PartHealth(self.store, PartState.HEALTHY, detail, latency, facts)

    async def _count(self, pattern: str) -> tuple[int, bool]:
        seen: set[str] = set()
        async for _, keys in scan(self._redis, pattern, Cancellations()):
            seen.update(keys)
            if len(seen) >= _COUNT_LIMIT:
                return _COUNT_LIMIT, False
        return len(seen), True

    async def measure(self, sandboxes: Sequence[Sandbox], pace: Pace) -> Mapping[UUID, Amount]:
        """Measure every sandbox's keys in one walk through the server's."""
        return await measure_keys(self._redis, [each.id for each in sandboxes], pace)

    async def list_ids(self) -> set[str]:
        """Return the UUIDs of sandboxes with keys, traces or a user; it scans every key of the server."""
        found: set[str] = set() if self._users is None else await self._users.ids()
        with translating():
            async for _, keys in scan(self._redis, "sandbox:*", Cancellations()):
                found.update(match[1] for key in keys if (match := OWN_KEY.match(key)))
        if self._traces is not None:
            found |= await self._traces.ids()
        return found

    async def list_whole(self) -> set[str]:
        """Return none: a part may be empty."""
        return set()

    def always_has(self, _sandbox: Sandbox) -> str:
        """Return "": a part may be empty."""
        return ""

    def name_of(self, listed_id: str) -> str:
        """Return the pattern of the sandbox's keys."""
        return f"{redis_prefix(listed_id)}*"

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Do as `Namespace` documents."""
        return await drop_orphan(self, listed_id, is_orphan)
