"""The health of a sandbox: what each of its parts says, asked at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from .error_text import explain
from .errors import SandboxError
from .models import Sandbox
from .namespaces import PartHealth, PartState
from .routing import RouteTable

DEFAULT_TIMEOUT = 3.0
"""Seconds one part may take to answer."""


@dataclass(frozen=True, slots=True)
class SandboxHealth:
    """A sandbox with the state of each of its parts, in the order of the checker's parts."""

    sandbox: Sandbox
    parts: tuple[PartHealth, ...]

    @property
    def overall(self) -> PartState:
        """Healthy when every part is, degraded when one is not, unhealthy when several are not."""
        failing = sum(part.state is not PartState.HEALTHY for part in self.parts)
        if failing == 0:
            return PartState.HEALTHY
        return PartState.DEGRADED if failing == 1 else PartState.UNHEALTHY


class Part(Protocol):
    """Anything a sandbox consists of; every `Namespace` is one. `store` is its name for people."""

    @property
    def store(self) -> str: ...

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """How the part serves this sandbox now. Raises `DependencyUnavailable` when its server is away."""
        ...


class Routes(Protocol):
    """Where the routing of guilds is read; see `RouteProvider`."""

    @property
    def trouble(self) -> str: ...

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable: ...


class RoutingPart:
    """Whether this process really sends the events of a sandbox's guilds to it."""

    store = "Routing"

    def __init__(self, routes: Routes, *, now: Callable[[], float] = time.time) -> None:
        """`now` is in seconds since the epoch and judges expiry."""
        self._routes = routes
        self._now = now

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Healthy while every guild is routed here; `facts` has `guilds` and `routed`."""
        started = time.perf_counter()
        table = await self._routes.resolve(sandbox.guild_ids)
        now = self._now()
        routes = [table.route(guild_id, now) for guild_id in sandbox.guild_ids]
        routed = sum(route is not None and route.sandbox_id == str(sandbox.id) for route in routes)
        latency = (time.perf_counter() - started) * 1000
        guilds = len(routes)
        detail = f"{routed} of {guilds} servers routed here" if guilds else "no servers registered"
        state = PartState.HEALTHY if routed == guilds else PartState.DEGRADED
        if self._routes.trouble:
            state, detail = PartState.DEGRADED, f"{detail}; changes may come late: {self._routes.trouble}"
        return PartHealth(self.store, state, detail, latency, {"guilds": guilds, "routed": routed})


class HealthChecker:
    """Asks every part about a sandbox; one that is away or slow is a finding, not an error."""

    def __init__(self, parts: Sequence[Part], *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """`timeout` is in seconds and holds for each part alone."""
        self._parts = tuple(parts)
        self._timeout = timeout

    async def check(self, sandbox: Sandbox) -> SandboxHealth:
        """Ask all parts at once; takes at most the timeout."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._part(part, sandbox)) for part in self._parts]
        return SandboxHealth(sandbox, tuple(task.result() for task in tasks))

    async def _part(self, part: Part, sandbox: Sandbox) -> PartHealth:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                return await part.check(sandbox)
        except TimeoutError:
            detail = f"no answer within {self._timeout:g} s"
        except SandboxError as error:
            detail = explain(error).sentence
        latency = (time.perf_counter() - started) * 1000
        return PartHealth(part.store, PartState.UNHEALTHY, detail, latency)
