"""Discord that ends connections and sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from .bots import RECOVERS_WITHIN, until
from .stage import Stage

Faults = Callable[[Stage, float], Awaitable[None]]


async def resumed_after(stage: Stage, strike: Callable[[], object], what: str) -> None:
    """Strike, and wait until a RESUME was answered with a replay."""
    before = sum(1 for r in stage.sim.resumes if r.replayed is not None)
    strike()
    await until(
        lambda: sum(1 for r in stage.sim.resumes if r.replayed is not None) > before,
        RECOVERS_WITHIN,
        f"a resume after {what}",
    )


async def identified_after(stage: Stage, strike: Callable[[], object], what: str) -> None:
    """Strike at the session, and wait for the new ones of all shards."""
    before = len(stage.sim.identifies)
    stage.one_more_identify()
    strike()
    await until(
        lambda: len(stage.sim.identifies) >= before + stage.scenario.shards,
        RECOVERS_WITHIN,
        f"a new session after {what}",
    )


async def reconnect_storm(stage: Stage, seconds: float) -> None:
    """Op 7, again and again, also during the handshakes."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        await asyncio.sleep(stage.chance.uniform(0.05, 0.6))
        stage.sim.reconnect()


async def invalid_resumable(stage: Stage, seconds: float) -> None:
    """Op 9 with `d: true`."""
    for _ in range(3):
        await asyncio.sleep(seconds / 4)
        await resumed_after(stage, lambda: stage.sim.invalidate(resumable=True), "op 9 true")


async def invalid(stage: Stage, seconds: float) -> None:
    """Op 9 with `d: false`."""
    for _ in range(2):
        await asyncio.sleep(seconds / 3)
        await identified_after(stage, lambda: stage.sim.invalidate(resumable=False), "op 9 false")


def closed(code: int, *, new_session: bool = False) -> Faults:
    """Discord closes with a code."""

    async def faults(stage: Stage, seconds: float) -> None:
        after = identified_after if new_session else resumed_after
        for _ in range(2):
            await asyncio.sleep(seconds / 3)
            await after(stage, lambda: stage.sim.close(code), f"close {code}")

    return faults


async def dropped(stage: Stage, seconds: float) -> None:
    """TCP resets: 1006."""
    for _ in range(4):
        await asyncio.sleep(seconds / 5)
        await resumed_after(stage, stage.sim.drop, "a reset")


async def half_open(stage: Stage, seconds: float) -> None:
    """TCP stands and nothing comes, not even heartbeat ACKs."""
    for _ in range(2):
        await asyncio.sleep(seconds / 4)
        await resumed_after(stage, stage.sim.half_open, "a half-open socket")


async def dead_resume_url(stage: Stage, seconds: float) -> None:
    """The resume URL refuses, then hangs; the normal one works."""
    for how in ("drop", "hang"):
        await asyncio.sleep(seconds / 4)
        stage.sim.refuse_resume_url(how=how)
        await resumed_after(stage, stage.sim.drop, f"a reset with a resume URL that {how}s")
        stage.sim.refuse_resume_url(False)
