"""Whether this process can do its work now, and if not, what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable

_REDIS_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Report:
    """`missing` keeps the process from its work; `degraded` only slows it. Both map a part to a reason."""

    missing: dict[str, str]
    degraded: dict[str, str]

    @property
    def ready(self) -> bool:
        """True when nothing is missing."""
        return not self.missing


class Readiness:
    """Collects what `/readyz` answers; usable from the first moment of the process on."""

    def __init__(self) -> None:
        self._core: Core | None = None
        self._gateway: Callable[[], bool] | None = None
        self._starting: dict[str, str] = {}

    def waiting(self, error: DependencyUnavailable) -> None:
        """The start waits for this server."""
        self._starting = {error.dependency: error.reason}

    def attach(self, core: Core, gateway_connected: Callable[[], bool]) -> None:
        """The core is open; from now on its parts are asked."""
        self._core = core
        self._gateway = gateway_connected
        self._starting = {}

    async def report(self) -> Report:
        """Ask every part now; takes a second at most."""
        if self._core is None or self._gateway is None:
            return Report(self._starting or {"start": "not finished"}, {})
        core = self._core
        missing: dict[str, str] = {}
        if not self._gateway():
            missing["gateway"] = "not connected to Discord"
        if core.routes.current_table is None:
            state = "routes may be out of date" if core.routes.loaded else "routes are not loaded"
            missing["PostgreSQL"] = f"{state}: {core.routes.trouble or 'no connection'}"
        if not core.nats.connected:
            missing["NATS"] = "not connected"
        elif not core.streams.ready:
            missing["NATS"] = "the streams do not exist yet"
        if core.router.waiting_for:
            missing["routing"] = f"events wait for {core.router.waiting_for}"
        degraded = {} if await _redis_answers(core) else {"Redis": "no answer"}
        return Report(missing, degraded)


async def _redis_answers(core: Core) -> bool:
    try:
        async with asyncio.timeout(_REDIS_WITHIN):
            return bool(await core.redis.ping())
    except (RedisError, OSError, TimeoutError):
        return False
