"""Checks whether this process can do its work now, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sandbox_core.dependencies import SANDBOX_NATS
from sandbox_core.health import HealthChecker, SystemHealth
from sandbox_core.hindrance import hindrance
from sandbox_core.namespaces import PartState
from sandbox_core.tenant_side import TENANT_POSTGRES, TENANT_REDIS

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

ANSWER_WITHIN = 1.0
"""The limit in seconds for each check: the answer waits for the slowest."""
_TOLERATED = ("Redis", SANDBOX_NATS, TENANT_POSTGRES, TENANT_REDIS)
"""The servers without which production's events go on."""


@dataclass(frozen=True, slots=True)
class Report:
    """`missing` stops the process's work; `degraded` only slows it down. Both map what it is to a reason."""

    missing: dict[str, str]
    degraded: dict[str, str]
    standing_by: bool = False
    """Whether other processes have all shards, and this one has none."""
    waits_for: str = ""
    """The process that publishes the shards for which this one waits."""
    latencies_ms: dict[str, float] = field(default_factory=dict)
    """The milliseconds of each server for a real request; only of servers that answered.

    `gateway` is the time of Discord's last heartbeat acknowledgement, on the slowest connection.
    """

    isolation: str = ""
    """How new sandboxes are kept apart: `enforced` or `convention`; empty at the start and the end."""

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


class GatewayState(Protocol):
    """What readiness needs to know of the bot."""

    @property
    def gateway_trouble(self) -> str: ...

    @property
    def standing_by(self) -> bool: ...

    @property
    def gateway_latency(self) -> float | None: ...


class Readiness:
    """Builds the answer of `/readyz`, from the start of the process on."""

    def __init__(self) -> None:
        self._core: Core | None = None
        self._gateway: GatewayState | None = None
        self._servers: HealthChecker | None = None
        self._unready = {"start": "not finished"}

    def starting(self, servers: HealthChecker) -> None:
        """Note that the core opens; until it is open, `servers` is checked."""
        self._servers = servers

    def attach(self, core: Core, gateway: GatewayState) -> None:
        """Note that the core is open; from now on it is checked."""
        self._core = core
        self._gateway = gateway

    def detach(self) -> None:
        """Note that the core will close."""
        self._core = self._servers = None
        self._unready = {"stop": "the process is ending"}

    async def report(self) -> Report:
        """Check everything now, in at most a second."""
        core, gateway = self._core, self._gateway
        if core is None or gateway is None:
            return await self._not_yet()
        system = await core.health.check_system(within=ANSWER_WITHIN)
        missing, degraded = _failing(system)
        if gateway.gateway_trouble:
            missing["gateway"] = gateway.gateway_trouble
        if core.router.waiting_for:
            missing["Routing"] = f"events wait for {core.router.waiting_for}"
        if not {"NATS", SANDBOX_NATS} & {*missing, *degraded} and (
            trouble := core.publishers.sandboxes_trouble
        ):
            degraded["Sandboxes"] = trouble
        if (lacking := hindrance(core.settings)) is not None:
            degraded["Isolation"] = f"no new sandboxes: {lacking.problem}"
        latencies = _latencies(system)
        if gateway.gateway_latency is not None:
            latencies["gateway"] = round(gateway.gateway_latency * 1000, 1)
        return Report(
            missing,
            degraded,
            gateway.standing_by,
            core.publishing.standing_by,
            latencies,
            core.settings.sandbox_isolation,
        )

    async def _not_yet(self) -> Report:
        if self._servers is None:
            return Report(dict(self._unready), {})
        system = await self._servers.check_system(within=ANSWER_WITHIN)
        missing, degraded = _failing(system)
        return Report(self._unready | missing, degraded, latencies_ms=_latencies(system))


def _failing(system: SystemHealth) -> tuple[dict[str, str], dict[str, str]]:
    """Return what fails of what the process needs, and of what it can do without."""
    failing = {each.store: each.detail for each in system.checks if each.state is not PartState.HEALTHY}
    degraded = {store: failing.pop(store) for store in _TOLERATED if store in failing}
    return failing, degraded


def _latencies(system: SystemHealth) -> dict[str, float]:
    return {
        each.store: round(each.latency_ms, 1)
        for each in system.checks
        if each.state is not PartState.UNHEALTHY and each.latency_ms
    }
