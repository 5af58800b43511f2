"""Whether this process can do its work now, and if not, what is missing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from sandbox_core.bootstrap import Core
from sandbox_core.dependencies import DependencyHealth, Question, ask, questions
from sandbox_core.errors import DependencyUnavailable

ANSWER_WITHIN = 1.0
"""Seconds a server may take: who asks for readiness waits for the slowest."""
_GIVE_UP_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """`missing` keeps the process from its work; `degraded` only slows it. Both map a part to a reason."""

    missing: dict[str, str]
    degraded: dict[str, str]
    standing_by: bool = False
    """There is nothing to do at the moment: other processes have all the shards."""
    latencies_ms: dict[str, float] = field(default_factory=dict)
    """How many milliseconds each server took to answer a real request; only those that did."""

    @property
    def ready(self) -> bool:
        """True when nothing is missing."""
        return not self.missing


class GatewayState(Protocol):
    """What is asked of the bot."""

    @property
    def gateway_trouble(self) -> str: ...

    @property
    def standing_by(self) -> bool: ...


class Readiness:
    """Collects what `/readyz` answers; usable from the first moment of the process on."""

    def __init__(self) -> None:
        self._core: Core | None = None
        self._probes: ServerProbes | None = None
        self._gateway: GatewayState | None = None
        self._starting: dict[str, str] = {}

    def waiting(self, error: DependencyUnavailable) -> None:
        """The start waits for this server."""
        self._starting = {error.dependency: error.reason}

    def attach(self, core: Core, gateway: GatewayState) -> None:
        """The core is open; from now on its parts are asked."""
        self._core = core
        self._probes = ServerProbes(questions(core.pool, core.redis, core.js))
        self._gateway = gateway
        self._starting = {}

    async def detach(self) -> None:
        """The core is about to close."""
        probes, self._core, self._probes = self._probes, None, None
        self._starting = {"stop": "the process is ending"}
        if probes is not None:
            await probes.close()

    async def report(self) -> Report:
        """Ask every part now; takes a second at most."""
        if self._core is None or self._gateway is None or self._probes is None:
            return Report(self._starting or {"start": "not finished"}, {})
        core = self._core
        servers = await self._probes.ask()
        silent = {server.name: server.problem for server in servers if server.problem}
        degraded = {name: silent.pop(name) for name in ("Redis",) if name in silent}
        missing = silent
        if self._gateway.gateway_trouble:
            missing["gateway"] = self._gateway.gateway_trouble
        if core.routes.current_table is None:
            state = "routes may be out of date" if core.routes.loaded else "routes are not loaded"
            missing["PostgreSQL"] = f"{state}: {core.routes.trouble or 'no connection'}"
        if not core.nats.connected:
            missing["NATS"] = "not connected"
        elif not core.streams.ready:
            missing["NATS"] = "the streams do not exist yet"
        if core.router.waiting_for:
            missing["routing"] = f"events wait for {core.router.waiting_for}"
        return Report(
            missing,
            degraded,
            self._gateway.standing_by,
            {server.name: round(server.latency_ms, 1) for server in servers if not server.problem},
        )


class ServerProbes:
    """Asks each server one question at a time, however many people want to know.

    The answer comes in time whatever a server does: a request to one that hangs may take longer to give up
    than anybody who watches a process waits.
    """

    def __init__(self, asked: dict[str, Question], *, within: float = ANSWER_WITHIN) -> None:
        """`within` is in seconds."""
        self._questions = asked
        self._within = within
        self._running: dict[str, asyncio.Task[DependencyHealth]] = {}

    async def ask(self) -> tuple[DependencyHealth, ...]:
        """What each server says now, or that it does not answer."""
        for name, question in self._questions.items():
            if name not in self._running or self._running[name].done():
                self._running[name] = asyncio.create_task(
                    ask(name, question, _GIVE_UP_WITHIN), name=f"readiness-{name}"
                )
        asked = dict(self._running)
        done, _ = await asyncio.wait(asked.values(), timeout=self._within)
        late = f"no answer within {self._within:g} s"
        return tuple(
            task.result() if task in done else DependencyHealth(name, self._within * 1000, late)
            for name, task in asked.items()
        )

    async def close(self) -> None:
        """End the questions that are still open."""
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=self._within)
