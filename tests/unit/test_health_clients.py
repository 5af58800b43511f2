"""Health says how many ordinary bots are connected, and waits for that no longer than for anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import UUID

import pytest

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.health import HealthChecker
from tests.unit.test_health import SANDBOX


async def test_they_are_counted() -> None:
    async def counted(sandbox_id: UUID | None) -> Mapping[str, int]:
        return {str(sandbox_id): 3}

    assert (await HealthChecker([], clients=counted).check(SANDBOX)).clients == 3


async def test_a_sandbox_without_any() -> None:
    async def counted(_: UUID | None) -> Mapping[str, int]:
        return {}

    assert (await HealthChecker([], clients=counted).check(SANDBOX)).clients == 0


@pytest.mark.parametrize("trouble", ["away", "silent"])
async def test_without_redis_it_is_not_known_and_the_rest_is(trouble: str) -> None:
    async def counted(_: UUID | None) -> Mapping[str, int]:
        if trouble == "away":
            raise DependencyUnavailable("Redis", "no server accepts the connection")
        await asyncio.Event().wait()
        return {}

    health = await HealthChecker([], clients=counted, timeout=0.05).check(SANDBOX)
    assert (health.clients, health.parts) == (None, ())


async def test_where_there_is_no_endpoint_nobody_is_asked() -> None:
    assert (await HealthChecker([]).check(SANDBOX)).clients is None
