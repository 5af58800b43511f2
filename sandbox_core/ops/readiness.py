"""Whether this process can do its work now, and if not, what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sandbox_core.health import HealthChecker, SystemHealth
from sandbox_core.namespaces import PartState

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

ANSWER_WITHIN = 1.0
"""Seconds a part may take: who asks for readiness waits for the slowest."""
_TOLERATED = ("Redis",)
"""Without it the process does its work, only slower."""


@dataclass(frozen=True, slots=True)
class Report:
    """`missing` keeps the process from its work; `degraded` only slows it. Both map a part to a reason."""

    missing: dict[str, str]
    degraded: dict[str, str]
    standing_by: bool = False
    """There is nothing to do at the moment: other processes have all the shards."""
    waits_for: str = ""
    """Which process publishes shards that this one would publish, and does not resume."""
    latencies_ms: dict[str, float] = field(default_factory=dict)
    """How many milliseconds each server took to answer a real request; only those that did.

    `gateway`: how long Discord took to acknowledge the last heartbeat, on the slowest connection.
    """

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

    @property
    def gateway_latency(self) -> float | None: ...


class Readiness:
    """Collects what `/readyz` answers; usable from the first moment of the process on."""

    def __init__(self) -> None:
        self._core: Core | None = None
        self._gateway: GatewayState | None = None
        self._servers: HealthChecker | None = None
        self._unready = {"start": "not finished"}

    def starting(self, servers: HealthChecker) -> None:
        """The core is being opened; until it is, these are asked."""
        self._servers = servers

    def attach(self, core: Core, gateway: GatewayState) -> None:
        """The core is open; from now on its parts are asked."""
        self._core = core
        self._gateway = gateway

    def detach(self) -> None:
        """The core is about to close."""
        self._core = self._servers = None
        self._unready = {"stop": "the process is ending"}

    async def report(self) -> Report:
        """Ask every part now; takes a second at most."""
        core, gateway = self._core, self._gateway
        if core is None or gateway is None:
            return await self._not_yet()
        system = await core.health.check_system(within=ANSWER_WITHIN)
        missing, degraded = _failing(system)
        if gateway.gateway_trouble:
            missing["gateway"] = gateway.gateway_trouble
        if core.router.waiting_for:
            missing["Routing"] = f"events wait for {core.router.waiting_for}"
        latencies = _latencies(system)
        if gateway.gateway_latency is not None:
            latencies["gateway"] = round(gateway.gateway_latency * 1000, 1)
        return Report(missing, degraded, gateway.standing_by, core.publishing.standing_by, latencies)

    async def _not_yet(self) -> Report:
        if self._servers is None:
            return Report(dict(self._unready), {})
        system = await self._servers.check_system(within=ANSWER_WITHIN)
        missing, degraded = _failing(system)
        return Report(self._unready | missing, degraded, latencies_ms=_latencies(system))


def _failing(system: SystemHealth) -> tuple[dict[str, str], dict[str, str]]:
    """What keeps the process from its work, and what it can do without."""
    failing = {part.store: part.detail for part in system.parts if part.state is not PartState.HEALTHY}
    degraded = {store: failing.pop(store) for store in _TOLERATED if store in failing}
    return failing, degraded


def _latencies(system: SystemHealth) -> dict[str, float]:
    return {
        part.store: round(part.latency_ms, 1)
        for part in system.parts
        if part.state is not PartState.UNHEALTHY and part.latency_ms
    }
