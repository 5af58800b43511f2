"""Production's latency beside a sandbox that does all that it may, as fast as it can.

Its worker is a process of its own at a low priority, as it would be on another machine: measured is what
the bot and the servers have to do for it. The reference is such a process that only computes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from .isolation import OWNER, registered
from .latency import through_the_bot
from .report import Section, Spread, percentile
from .rig import rig

_RATE = 2000
_ROUNDS = 3
_SHARES = (0.5, 0.99, 0.999)


async def measure(section: Section) -> None:
    """The promise: production's p99 is what it is without the neighbour."""
    section.note(f"Load of the machine as it began: {os.getloadavg()[0]:.1f}.")
    seconds, rounds = section.size(5, 1), section.size(_ROUNDS, 1)
    async with rig(guilds=100, isolated=True) as running:
        core = running.bot.sandbox_core
        ids = [str(guild["id"]) for guild in running.sim.info["guilds"][1:11]]
        (sandbox,), manager = await registered(core, ids), core.manager
        hostile = {"sandbox_id": str(sandbox.id), **manager.credentials(sandbox)}
        kinds: dict[str, Any] = {
            "alone": nullcontext,
            "beside a process that only computes": lambda: _neighbour({}),
            "beside a hostile sandbox": lambda: _neighbour(hostile),
        }
        taken: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
        did: Counter[str] = Counter()
        for _ in range(rounds):
            for kind, context in kinds.items():
                async with context() as done:
                    taken[kind].append((await through_the_bot(running, _RATE, seconds))[0])
                did.update(done or {})
        await manager.destroy(OWNER, sandbox.name)
    spreads = {
        kind: [Spread(tuple(percentile(values, share) for values in values_of)) for share in _SHARES]
        for kind, values_of in taken.items()
    }
    alone, computes = spreads["alone"][1], spreads["beside a process that only computes"][1]
    section.table(
        f"Event latency at {_RATE:,}/s, frame read to acknowledged, ms, {rounds} rounds of {seconds} s",
        ("", "p50", "p99", "p99.9", "p99 over alone", "p99 over computing"),
        [
            (kind, *each, f"{each[1].over(alone)} x", f"{each[1].over(computes)} x")
            for kind, each in spreads.items()
        ],
    )
    words = ", ".join(f"{count:,} {name}" for name, count in did.items()) or "nothing"
    section.note(
        f"The hostile sandbox did in all rounds: {words}. Load as it ended: {os.getloadavg()[0]:.1f}."
    )


@asynccontextmanager
async def _neighbour(logins: dict[str, str]) -> AsyncIterator[dict[str, int]]:
    """It runs until the body is left; what it did is in the dictionary then."""
    done: dict[str, int] = {}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.hostile"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(logins).encode() + b"\n")
    await process.stdin.drain()
    await process.stdout.readline()
    try:
        yield done
    finally:
        process.stdin.close()
        said, _ = await process.communicate()
        done |= json.loads(said)
