"""Checks all parts of a sandbox, or all that the sandboxes share, at the same time.

The answer always comes in time: it does not wait for a request to a hanging server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from .dependencies import Question
from .error_text import explain
from .errors import DependencyUnavailable, SandboxError
from .models import Sandbox
from .namespaces import PartHealth, PartState
from .namespaces.backlogs import Backlog
from .routing import RouteTable
from .tasks import Abandoned
from .words import counted

DEFAULT_TIMEOUT = 3.0
"""The limit in seconds for each check."""
_CLOSE_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class SandboxHealth:
    """A sandbox with the health of each part, in the order of the checker's parts."""

    sandbox: Sandbox
    parts: tuple[PartHealth, ...]
    backlog: Backlog = field(default_factory=Backlog)

    @property
    def clients(self) -> int | None:
        """How many ordinary bots are connected; None when that is not known."""
        return self.backlog.connected

    @property
    def overall(self) -> PartState:
        """Healthy when all parts are, degraded when one is not, unhealthy when several are not."""
        return _overall(self.parts)


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """The health of what all sandboxes share: the servers, and this process's routing."""

    checks: tuple[PartHealth, ...]

    @property
    def overall(self) -> PartState:
        """Healthy when all checks are, degraded when one is not, unhealthy when several are not."""
        return _overall(self.checks)


def _overall(found: Sequence[PartHealth]) -> PartState:
    failing = sum(each.state is not PartState.HEALTHY for each in found)
    if failing == 0:
        return PartState.HEALTHY
    return PartState.DEGRADED if failing == 1 else PartState.UNHEALTHY


class Part(Protocol):
    """A part of a sandbox; every `Namespace` is one. `store` is its name for people."""

    @property
    def store(self) -> str: ...

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check the part of this sandbox now. Raises `DependencyUnavailable` when its server is away."""
        ...


class SystemCheck(Protocol):
    """Checks something that all sandboxes share, such as a server."""

    @property
    def store(self) -> str: ...

    @property
    def where(self) -> str:
        """Hosts and ports of the server; "" when it is none."""
        ...

    async def check_system(self) -> PartHealth:
        """Check it now. Raises `DependencyUnavailable` when its server is away."""
        ...


class ServerCheck:
    """Checks one server: whether it answers, how fast, and whether it lacks something."""

    def __init__(
        self, store: str, question: Question, *, where: str = "", lacks: Callable[[], str] = lambda: ""
    ) -> None:
        """`lacks` returns what is missing on a server that answers; "" when nothing is."""
        self.store = store
        self.where = where
        """The server's host and port."""
        self.question = question
        self._lacks = lacks

    async def check_system(self) -> PartHealth:
        """Return healthy when the server answers and lacks nothing."""
        started = time.perf_counter()
        await self.question()
        latency = (time.perf_counter() - started) * 1000
        if lacking := self._lacks():
            return PartHealth(self.store, PartState.DEGRADED, f"answers, but {lacking}", latency)
        return PartHealth(self.store, PartState.HEALTHY, "answers", latency)


class Routes(Protocol):
    """The routes of guilds; see `RouteProvider`."""

    @property
    def current_table(self) -> RouteTable | None: ...

    @property
    def trouble(self) -> str: ...

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable: ...


BacklogOf = Callable[[Sandbox], Awaitable[Backlog]]
"""Returns who in a sandbox is how far behind. What can't be read is in it."""
LostGuilds = Callable[[Sandbox], Awaitable[Collection[str]]]
"""Returns the guilds that by the audit log are registered with a running sandbox, but not mapped to it."""


async def _none_lost(_sandbox: Sandbox) -> Collection[str]:
    return ()


class RoutingCheck:
    """Checks whether this process routes the events of a sandbox's guilds to it."""

    store = "Routing"
    where = ""

    def __init__(
        self, routes: Routes, *, lost: LostGuilds = _none_lost, now: Callable[[], float] = time.time
    ) -> None:
        """`now` returns seconds since the epoch; it decides whether a route has expired."""
        self._routes = routes
        self._lost = lost
        self._now = now

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Return healthy when every guild is routed to the sandbox.

        `facts` has the numbers `guilds`, `routed`, and `lost`: registered, but not mapped any more. Raises
        `DependencyUnavailable`.
        """
        started = time.perf_counter()
        table = await self._routes.resolve(sandbox.guild_ids)
        lost = await self._lost(sandbox)
        now = self._now()
        routes = [table.route(guild_id, now) for guild_id in sandbox.guild_ids]
        routed = sum(route is not None and route.sandbox_id == str(sandbox.id) for route in routes)
        latency = (time.perf_counter() - started) * 1000
        guilds = len(routes) + len(lost)
        of_all = counted(guilds, "server", "servers")
        detail = f"{routed} of {of_all} routed here" if guilds else "no servers registered"
        state = PartState.HEALTHY if routed == guilds else PartState.DEGRADED
        if lost:
            detail = f"{detail}; the mapping of {', '.join(sorted(lost))} is missing"
        if self._routes.trouble:
            state, detail = PartState.DEGRADED, f"{detail}; changes may come late: {self._routes.trouble}"
        facts = {"guilds": guilds, "routed": routed, "lost": len(lost)}
        return PartHealth(self.store, state, detail, latency, facts)

    async def check_system(self) -> PartHealth:
        """Return healthy when this process gets every change of routes at once."""
        if self._routes.current_table is None or self._routes.trouble:
            detail = f"changes may come late: {self._routes.trouble or 'the link to PostgreSQL is silent'}"
            return PartHealth(self.store, PartState.DEGRADED, detail, 0.0)
        return PartHealth(self.store, PartState.HEALTHY, "current", 0.0)


Place = Callable[[Sandbox, str], str]
"""Returns host and port of the server on which the sandbox has its part in this store, or ""."""


def _unknown(_sandbox: Sandbox, _store: str) -> str:
    return ""


class HealthChecker:
    """Runs all checks of a sandbox or the system; what is away or slow is a result, not an error."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        system: Sequence[SystemCheck] = (),
        place: Place = _unknown,
        backlog: BacklogOf | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """`timeout` is the limit in seconds for each check."""
        self._parts = tuple(parts)
        self._backlog = backlog
        self._system = tuple(system)
        self._place = place
        self._timeout = timeout
        self._places = {check.store: check.where for check in self._system}
        self._asking: dict[str, asyncio.Task[PartHealth]] = {}
        self._late = Abandoned()

    async def check(self, sandbox: Sandbox) -> SandboxHealth:
        """Check all parts of the sandbox at once, in at most the timeout."""
        places = {part.store: self._place(sandbox, part.store) for part in self._parts}
        asked = {
            part.store: self._begin(part.store, part.check(sandbox), places[part.store])
            for part in self._parts
        }
        reading = asyncio.create_task(self._behind(sandbox), name="health-backlog")
        try:
            parts = await self._answers(asked, self._timeout, places)
            return SandboxHealth(sandbox, parts, await reading)
        finally:
            self._late.cancel(reading)

    async def _behind(self, sandbox: Sandbox) -> Backlog:
        if self._backlog is None:
            return Backlog()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._backlog(sandbox)
        except TimeoutError:
            late = f"It is not known within {self._timeout:g} s."
            return Backlog(unread={"consumers": late, "sessions": late})

    async def check_system(self, *, within: float | None = None) -> SystemHealth:
        """Check the whole system at once, in at most `within` seconds, or the timeout.

        Concurrent callers share each check.
        """
        for check in self._system:
            if check.store not in self._asking or self._asking[check.store].done():
                self._asking[check.store] = self._begin(check.store, check.check_system(), check.where)
        found = await self._answers(dict(self._asking), within or self._timeout, self._places, shared=True)
        return SystemHealth(tuple(_named(each, self._places[each.store]) for each in found))

    async def close(self) -> None:
        """End the open checks that end soon."""
        self._late.cancel(*self._asking.values())
        await self._late.wait(_CLOSE_WITHIN)

    def _begin(self, store: str, check: Awaitable[PartHealth], where: str) -> asyncio.Task[PartHealth]:
        return asyncio.create_task(self._bounded(store, check, where), name=f"health-{store}")

    async def _answers(
        self,
        asked: dict[str, asyncio.Task[PartHealth]],
        within: float,
        places: Mapping[str, str],
        *,
        shared: bool = False,
    ) -> tuple[PartHealth, ...]:
        """Return the results. Cancel a late check, unless it is `shared`."""
        try:
            if asked:
                await asyncio.wait(asked.values(), timeout=within)
        finally:
            if not shared:
                self._late.cancel(*asked.values())
        return tuple(
            task.result() if task.done() else _overdue(store, within, places[store])
            for store, task in asked.items()
        )

    async def _bounded(self, store: str, check: Awaitable[PartHealth], where: str) -> PartHealth:
        fault = None
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                return await check
        except TimeoutError:
            fault = _no_answer(store, self._timeout, where)
            detail = fault.reason
        except SandboxError as error:
            if isinstance(error, DependencyUnavailable):
                fault = error
            # The result names it already.
            of_this = fault is not None and fault.dependency == store
            detail = fault.reason if fault is not None and of_this else explain(error).sentence
        latency = (time.perf_counter() - started) * 1000
        return PartHealth(store, PartState.UNHEALTHY, detail, latency, fault=fault)


def _named(found: PartHealth, where: str) -> PartHealth:
    """Have the detail of a failing server say which one it is."""
    if found.state is PartState.HEALTHY or not where or where in found.detail:
        return found
    return replace(found, detail=f"{found.detail} (at {where})")


def _overdue(store: str, within: float, where: str) -> PartHealth:
    fault = _no_answer(store, within, where)
    return PartHealth(store, PartState.UNHEALTHY, fault.reason, within * 1000, fault=fault)


def _no_answer(store: str, seconds: float, where: str) -> DependencyUnavailable:
    return DependencyUnavailable(store, f"no answer within {seconds:g} s", where)
