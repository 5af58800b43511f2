"""No fault at all, and all of them at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from .bots import ChaosError
from .stage import Stage


async def nothing(stage: Stage, seconds: float) -> None:
    """Only traffic and commands."""
    await asyncio.sleep(seconds)


async def everything(stage: Stage, seconds: float) -> None:
    """Faults of all kinds at random, several at once."""
    ends = time.monotonic() + seconds
    chance, sim = stage.chance, stage.sim

    async def repeat(pause: tuple[float, float], act: Callable[[], Awaitable[object] | None]) -> None:
        while True:
            await asyncio.sleep(chance.uniform(*pause))
            acted = act()
            if acted is not None:
                await acted

    def reset() -> None:
        sim.drop(chance.randrange(stage.scenario.shards))

    def reconnect() -> None:
        sim.reconnect()

    def end_session() -> None:
        stage.one_more_identify()
        if chance.random() < 0.5:
            sim.close(4009)
        else:
            sim.invalidate(resumable=False)

    def close() -> None:
        sim.close(chance.choice([4000, 4008]))

    async def slow() -> None:
        stage.taps[0].delay = 2.0
        await asyncio.sleep(3)
        stage.taps[0].delay = 0.0

    kinds: list[tuple[tuple[float, float], Callable[[], Awaitable[object] | None]]] = [
        ((2, 8), reset),
        ((3, 9), reconnect),
        ((5, 15), close),
        ((25, 45), end_session),
        ((6, 15), lambda: stage.restart(chance.randrange(stage.scenario.processes))),
        ((20, 40), lambda: stage.outage(stage.nats[0], chance.uniform(1, 8))),
        ((10, 30), lambda: stage.outage(stage.servers.valkey, chance.uniform(1, 8))),
        ((10, 30), lambda: stage.outage(stage.servers.postgres, chance.uniform(1, 8))),
        ((15, 30), slow),
    ]
    tasks = [asyncio.create_task(repeat(pause, act)) for pause, act in kinds]
    try:
        while time.monotonic() < ends:
            await asyncio.sleep(0.1)
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await _heal(stage)


async def _heal(stage: Stage) -> None:
    """Bring back whatever a fault that was cut off has left away."""
    stage.taps[0].delay = 0.0
    for server in (stage.servers.postgres, stage.servers.valkey, *stage.nats):
        if not server.running:
            await server.start()
    for number in range(stage.scenario.processes):
        await stage.start(number)
    if len(stage.bots.running) != stage.scenario.processes:
        raise ChaosError(f"{len(stage.bots.running)} processes run")
