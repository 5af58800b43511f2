"""Processes of the gateway endpoint that die, and the sandboxes' NATS with them, while bots are connected."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from . import tenant_faults
from .bots import RECOVERS_WITHIN, ChaosError, until
from .clients import Endpoints
from .stage import Stage


def _endpoints(stage: Stage) -> Endpoints:
    if stage.endpoints is None:
        raise ChaosError("there is no endpoint")
    return stage.endpoints


async def _replace_first(stage: Stage, end: signal.Signals) -> None:
    """End the process that has the connections, and start it again behind the other."""
    made = _endpoints(stage)
    first, second = made.front.ports
    made.front.ports = [second, first]
    await made.processes[first].end(end)
    await made.start(first)


@asynccontextmanager
async def _resumed(made: Endpoints) -> AsyncIterator[None]:
    """Return from the body's end when each client has resumed its only session since its begin."""
    before = {name: client.resumes for name, client in made.clients.items()}
    yield
    for name, client in made.clients.items():
        await until(
            lambda client=client, name=name: len(client.sessions) > 1 or client.resumes > before[name],
            RECOVERS_WITHIN,
            f"RESUMED at the client of {name}",
        )
        if len(client.sessions) > 1:
            raise ChaosError(f"the client of {name} began anew: {len(client.sessions)} sessions")


async def gateways_killed(stage: Stage, seconds: float) -> None:
    """SIGKILL, a planned restart, and cut connections, in turn: every session goes on."""
    made = _endpoints(stage)
    for end in (signal.SIGKILL, signal.SIGTERM):
        await asyncio.sleep(stage.chance.uniform(0.1, 0.3) * seconds)
        async with _resumed(made):
            await _replace_first(stage, end)
        async with _resumed(made):
            made.front.cut()


async def gateways_and_nats_killed(stage: Stage, seconds: float) -> None:
    """Their nats-server is away, with what it had in memory, and a process of the endpoint dies meanwhile."""
    killing = asyncio.create_task(tenant_faults.nats_killed(stage, seconds))
    try:
        await asyncio.sleep(seconds / 3)
        await _replace_first(stage, signal.SIGKILL)
    finally:
        await killing
