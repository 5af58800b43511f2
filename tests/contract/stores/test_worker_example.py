"""The worker of `docs/` when an event comes again, after any part of the work on it."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
from nats.aio.client import Client

from sandbox_core.context import SandboxContext
from sandbox_core.models import Sandbox
from tests.docs.markdown import ROOT

ALICE = {"id": "200000000000000001", "username": "alice"}
GUILD = "100000000000000001"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """`docs/worker_example.py`, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("worker_example", ROOT / "docs" / "worker_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Faulty:
    """A pool or client whose call number `fails_at` raises, after or before it was done."""

    def __init__(self, inner: Any, calls: list[int], fails_at: int, *, done: bool) -> None:
        self._inner, self._calls, self._fails_at, self._done = inner, calls, fails_at, done

    def __getattr__(self, name: str) -> Any:
        work = getattr(self._inner, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            self._calls.append(len(self._calls))
            fails = self._calls[-1] == self._fails_at
            if fails and not self._done:
                raise ConnectionResetError
            result = await work(*arguments, **options)
            if fails:
                raise ConnectionResetError
            return result

        return call


@pytest.mark.parametrize("done", [False, True], ids=["before it was done", "after it was done"])
async def test_whatever_fails_the_points_come_once_and_the_badge_is_told(
    context: SandboxContext,
    sandbox: Sandbox,
    nats_client: Client,
    example: ModuleType,
    *,
    done: bool,
) -> None:
    """Each call to a server fails once, for a message and an author of its own."""
    pool, redis = context.pool, context.redis
    told = await nats_client.subscribe(f"sandbox.{sandbox.id}.badges.awarded")
    await nats_client.flush()
    for fails_at in range(6):
        author = ALICE | {"id": str(200000000000000001 + fails_at)}
        message = {"id": f"30000000000000000{fails_at}", "author": author}
        calls: list[int] = []
        context.pool = Faulty(pool, calls, fails_at, done=done)  # type: ignore[assignment]
        context.redis = Faulty(redis, calls, fails_at, done=done)  # type: ignore[assignment]
        failed = 0
        for _ in range(3):
            try:
                await example.on_message(context, GUILD, message)
            except ConnectionResetError:
                failed += 1
        assert failed == (len(calls) > fails_at)
        xp, badges = await pool.fetchrow(
            "SELECT xp, (SELECT count(*) FROM badges WHERE profile_id = p.id) FROM profiles p"
            " WHERE user_id = $1",
            author["id"],
        )
        assert (xp, badges) == (example.POINTS, 1), fails_at
    context.pool, context.redis = pool, redis
    await context._nats.client.flush()
    for _ in range(6):
        await told.next_msg(60)
