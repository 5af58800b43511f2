"""The health of a sandbox: what each of its stores says, asked at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .error_text import explain
from .errors import SandboxError
from .models import Sandbox
from .namespaces import Namespace, PartHealth, PartState

DEFAULT_TIMEOUT = 3.0
"""Seconds one store may take to answer."""


@dataclass(frozen=True, slots=True)
class SandboxHealth:
    """A sandbox with the state of each of its parts, in the order of the stores."""

    sandbox: Sandbox
    parts: tuple[PartHealth, ...]

    @property
    def overall(self) -> PartState:
        """Healthy when every part is, degraded when one is not, unhealthy when several are not."""
        failing = sum(part.state is not PartState.HEALTHY for part in self.parts)
        if failing == 0:
            return PartState.HEALTHY
        return PartState.DEGRADED if failing == 1 else PartState.UNHEALTHY


class HealthChecker:
    """Asks every store about a sandbox; a store that is away or slow is a finding, not an error."""

    def __init__(self, namespaces: Sequence[Namespace], *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """`timeout` is in seconds and holds for each store alone."""
        self._namespaces = tuple(namespaces)
        self._timeout = timeout

    async def check(self, sandbox: Sandbox) -> SandboxHealth:
        """Ask all stores at once; takes at most the timeout."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._part(namespace, sandbox)) for namespace in self._namespaces]
        return SandboxHealth(sandbox, tuple(task.result() for task in tasks))

    async def _part(self, namespace: Namespace, sandbox: Sandbox) -> PartHealth:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                return await namespace.check(sandbox)
        except TimeoutError:
            detail = f"no answer within {self._timeout:g} s"
        except SandboxError as error:
            detail = explain(error).sentence
        latency = (time.perf_counter() - started) * 1000
        return PartHealth(namespace.store, PartState.UNHEALTHY, detail, latency)
