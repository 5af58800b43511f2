"""The short version of `make chaos`: some faults, a few seconds each."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.forked import ForkedProcess, start_forked

from .beside import play
from .scenarios import SCENARIOS

_SECONDS = 2.0


# nats-py 2.16 leaves the socket of a refused login open; workers come back before the bot answers for them.
@pytest.mark.filterwarnings("ignore:.*StreamWriter.__del__:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "name",
    [
        "bot killed",
        "op 7 storm",
        "disk full on nats",
        "sandbox stream full",
        "sandboxes' nats killed",
        "isolation enforced and back",
    ],
)
async def test_nothing_is_lost_doubled_or_on_the_wrong_side(name: str, tmp_path: Path) -> None:
    async def start(environment: Mapping[str, str]) -> ForkedProcess:
        return await start_forked("run", environment=environment)

    seed = random.randrange(10**6)
    verdict = await play(SCENARIOS[name], seed, _SECONDS, tmp_path, start)
    assert verdict.passed, (seed, verdict)
    assert (verdict.beside is not None) is SCENARIOS[name].isolated
    assert verdict.delivered + verdict.gaps + verdict.dropped >= verdict.sent > 500
