"""A scenario beside the same one without its fault, both at the same time on the same machine."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

from . import stage
from .bots import ChaosError, Start, start_program
from .judge import Verdict
from .latency import Beside, Latency
from .stage import Scenario, Stage

_BEGIN_WITHIN = 60.0


class _Window:
    """The seconds of the fault, which both runs begin together."""

    def __init__(self, scenario: Scenario) -> None:
        self._fault = scenario.faults
        self._both = asyncio.Barrier(2)
        self._over = asyncio.Event()
        self.begin = self.end = 0.0

    async def fault(self, running: Stage, seconds: float) -> None:
        await self._begin()
        self.begin = time.time()
        try:
            await self._fault(running, seconds)
        finally:
            self.end = time.time()
            self._over.set()

    async def nothing(self, _running: Stage, _seconds: float) -> None:
        await self._begin()
        await self._over.wait()

    async def _begin(self) -> None:
        try:
            async with asyncio.timeout(_BEGIN_WITHIN):
                await self._both.wait()
        except (TimeoutError, asyncio.BrokenBarrierError):
            raise ChaosError("the other run did not begin") from None

    async def played(self, scenario: Scenario, *rest: object) -> Verdict:
        """Play one of the two; the other does not wait for it any more."""
        try:
            return await stage.play(scenario, *rest)  # type: ignore[arg-type]
        finally:
            self._over.set()
            if self._both.n_waiting:
                await self._both.abort()

    def latency(self, values: list[tuple[float, float]]) -> Latency | None:
        within = [taken for sent_at, taken in values if self.begin <= sent_at <= self.end]
        return Latency.of(within) if within else None


async def play(
    scenario: Scenario, seed: int, seconds: float, logs: Path, start: Start = start_program
) -> Verdict:
    """Run one scenario, with another beside it where sandboxes are isolated."""
    if not scenario.isolated:
        return await stage.play(scenario, seed, seconds, logs, start)
    window = _Window(scenario)
    verdict, without = await asyncio.gather(
        window.played(replace(scenario, faults=window.fault), seed, seconds, logs / "fault", start),
        window.played(
            replace(scenario, faults=window.nothing, drops=False, small_disk=0),
            *(seed, seconds, logs / "without", start),
        ),
    )
    verdict.problems += [f"without the fault: {each}" for each in (*without.problems, *without.examples)]
    fault, calm = window.latency(verdict.production), window.latency(without.production)
    if fault is None or calm is None:
        verdict.problems.append("no event of production was stored during the fault")
        return verdict
    verdict.beside = Beside(fault, calm, window.latency(verdict.changing), os.getloadavg()[0])
    if not verdict.beside.within_noise:
        verdict.problems.append(f"production's events were delayed: {verdict.beside}")
    return verdict
