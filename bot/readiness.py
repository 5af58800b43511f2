"""Whether this process can do its work now, and if not, what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.namespaces import PartState

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
        self._gateway: GatewayState | None = None
        self._starting: dict[str, str] = {}

    def waiting(self, error: DependencyUnavailable) -> None:
        """The start waits for this server."""
        self._starting = {error.dependency: error.reason}

    def attach(self, core: Core, gateway: GatewayState) -> None:
        """The core is open; from now on its parts are asked."""
        self._core = core
        self._gateway = gateway
        self._starting = {}

    def detach(self) -> None:
        """The core is about to close."""
        self._core = None
        self._starting = {"stop": "the process is ending"}

    async def report(self) -> Report:
        """Ask every part now; takes a second at most."""
        core, gateway = self._core, self._gateway
        if core is None or gateway is None:
            return Report(self._starting or {"start": "not finished"}, {})
        system = await core.health.check_system(within=ANSWER_WITHIN)
        failing = {part.store: part.detail for part in system.parts if part.state is not PartState.HEALTHY}
        degraded = {store: failing.pop(store) for store in _TOLERATED if store in failing}
        missing = failing
        if gateway.gateway_trouble:
            missing["gateway"] = gateway.gateway_trouble
        if core.router.waiting_for:
            missing["Routing"] = f"events wait for {core.router.waiting_for}"
        return Report(
            missing,
            degraded,
            gateway.standing_by,
            {
                part.store: round(part.latency_ms, 1)
                for part in system.parts
                if part.state is not PartState.UNHEALTHY and part.latency_ms
            },
        )
