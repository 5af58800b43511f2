"""The health of a sandbox, and of the whole system: what each part says, asked at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from .dependencies import Question
from .error_text import explain
from .errors import SandboxError
from .models import Sandbox
from .namespaces import PartHealth, PartState, counted
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
        return _overall(self.parts)


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """The state of everything that all sandboxes share."""

    parts: tuple[PartHealth, ...]

    @property
    def overall(self) -> PartState:
        """As a sandbox's: healthy, degraded when one part is not healthy, unhealthy when several are not."""
        return _overall(self.parts)


def _overall(parts: Sequence[PartHealth]) -> PartState:
    failing = sum(part.state is not PartState.HEALTHY for part in parts)
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


class SystemPart(Protocol):
    """One part of what all sandboxes share, such as a server."""

    @property
    def store(self) -> str: ...

    async def check_system(self) -> PartHealth:
        """How the part works now. Raises `DependencyUnavailable` when its server is away."""
        ...


class ServerPart:
    """One server: whether it answers, how fast, and whether it has what it should."""

    def __init__(self, store: str, question: Question, *, lacks: Callable[[], str] = lambda: "") -> None:
        """`lacks` names what is missing on a server that answers, and is "" when nothing is."""
        self.store = store
        self._question = question
        self._lacks = lacks

    async def check_system(self) -> PartHealth:
        """Healthy when it answers and lacks nothing."""
        started = time.perf_counter()
        await self._question()
        latency = (time.perf_counter() - started) * 1000
        if lacking := self._lacks():
            return PartHealth(self.store, PartState.DEGRADED, f"answers, but {lacking}", latency)
        return PartHealth(self.store, PartState.HEALTHY, "answers", latency)


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
        of_all = counted(guilds, "server", "servers")
        detail = f"{routed} of {of_all} routed here" if guilds else "no servers registered"
        state = PartState.HEALTHY if routed == guilds else PartState.DEGRADED
        if self._routes.trouble:
            state, detail = PartState.DEGRADED, f"{detail}; changes may come late: {self._routes.trouble}"
        return PartHealth(self.store, state, detail, latency, {"guilds": guilds, "routed": routed})

    async def check_system(self) -> PartHealth:
        """Healthy while this process hears of every change at once."""
        if self._routes.trouble:
            detail = f"changes may come late: {self._routes.trouble}"
            return PartHealth(self.store, PartState.DEGRADED, detail, 0.0)
        return PartHealth(self.store, PartState.HEALTHY, "current", 0.0)


class HealthChecker:
    """Asks every part about a sandbox or the system; one that is away or slow is a finding, not an error."""

    def __init__(
        self, parts: Sequence[Part], *, system: Sequence[SystemPart] = (), timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        """`timeout` is in seconds and holds for each part alone."""
        self._parts = tuple(parts)
        self._system = tuple(system)
        self._timeout = timeout

    async def check(self, sandbox: Sandbox) -> SandboxHealth:
        """Ask all parts of the sandbox at once; takes at most the timeout."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._bounded(part.store, part.check(sandbox))) for part in self._parts
            ]
        return SandboxHealth(sandbox, tuple(task.result() for task in tasks))

    async def check_system(self) -> SystemHealth:
        """Ask all parts of the system at once; takes at most the timeout."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._bounded(part.store, part.check_system())) for part in self._system
            ]
        return SystemHealth(tuple(task.result() for task in tasks))

    async def _bounded(self, store: str, check: Awaitable[PartHealth]) -> PartHealth:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                return await check
        except TimeoutError:
            detail = f"no answer within {self._timeout:g} s"
        except SandboxError as error:
            detail = explain(error).sentence
        latency = (time.perf_counter() - started) * 1000
        return PartHealth(store, PartState.UNHEALTHY, detail, latency)
