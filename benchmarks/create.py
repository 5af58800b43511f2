"""`/sandbox create`, as a developer feels it, beside its parts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable

from sandbox_core.models import Actor

from .report import Section, Spread, percentile
from .rig import Rig, rig

_ROUNDS = 3


async def measure(section: Section) -> None:
    """p50 and p95 in milliseconds; the promise is p95 below 500 ms."""
    async with rig() as running:
        await _measure(section, running)


async def _measure(section: Section, running: Rig) -> None:
    per_round = section.size(40, 5)
    core = running.bot.sandbox_core
    owner = Actor("200000000000000001", "bench")

    async def command() -> None:
        answer = await running.sim.post(
            "slash",
            **running.sim.developer,
            path="sandbox create",
            options={"name": f"bench-{uuid.uuid4().hex[:12]}"},
        )
        if "running" not in answer["text"]:
            raise RuntimeError(f"create was refused: {answer['text']}")

    async def manager() -> None:
        await core.manager.create(owner)

    async def schema_only() -> None:
        await core.pool.execute("SELECT create_sandbox_schema($1)", uuid.uuid4().hex[:8])

    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "/sandbox create, command to visible answer": command,
        "SandboxManager.create": manager,
        "reference: the bare SQL function": schema_only,
    }
    p50: dict[str, list[float]] = {name: [] for name in steps}
    p95: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_ROUNDS):
        for name, step in steps.items():
            taken = []
            for _ in range(per_round):
                started = time.perf_counter()
                await step()
                taken.append((time.perf_counter() - started) * 1000)
            p50[name].append(percentile(taken, 0.5))
            p95[name].append(percentile(taken, 0.95))
    reference = Spread(tuple(p50["reference: the bare SQL function"]))
    section.table(
        f"Creating a sandbox, milliseconds: median (min-max) of {_ROUNDS} rounds of {per_round}",
        ("", "p50", "p95", "p50 over the reference"),
        [
            (
                name,
                Spread(tuple(p50[name])),
                Spread(tuple(p95[name])),
                Spread(tuple(p50[name])).over(reference),
            )
            for name in steps
        ],
    )
