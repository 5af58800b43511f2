"""What follows a commit fails in any way: the change is done, and is answered as done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import asyncpg
import pytest
from redis import exceptions as rd

from sandbox_core.errors import DependencyUnavailable, InvalidInput
from sandbox_core.models import NOBODY_ASKED, Actor, GuildAccess, Route, SandboxStatus, Switch
from sandbox_core.postgres import claims, connected, pool, transaction
from sandbox_core.postgres import cleanup as cleanup_rows

from .conftest import World

FAULTS = [
    DependencyUnavailable("Redis", "it can't be reached"),
    InvalidInput("x", "y", "z", "w"),
    rd.ResponseError("CROSSSLOT Keys in request don't hash to the same slot"),
    asyncpg.InternalServerError("x"),
    OSError("x"),
    ValueError("x"),
    RecursionError(),
]
any_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)


class FailingRoutes:
    def __init__(self, fault: Exception) -> None:
        self._fault = fault

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Nothing is undecided."""

    async def guilds_changed(self, routes: Mapping[str, Route | None]) -> Switch:
        raise self._fault


class FailingObserver:
    def created(self, seconds: float) -> None:
        raise ValueError

    def create_failed(self, reason: str, seconds: float) -> None:
        raise ValueError

    def destroyed(self, seconds: float) -> None:
        raise ValueError


def failing(fault: Exception) -> Callable[..., Any]:
    async def fail(*_arguments: object, **_options: object) -> None:
        raise fault

    return fail


@any_fault
async def test_telling_the_routes(world: World, alice: Actor, managed: GuildAccess, fault: Exception) -> None:
    manager = world._manager(routes=FailingRoutes(fault), observer=FailingObserver())
    made = await manager.create(alice, name="mine", guilds=[managed])
    assert made.unconfirmed == (NOBODY_ASKED,)
    assert made.sandbox.guild_ids == (managed.guild_id,)
    extended = await manager.extend(alice, "mine", "1h")
    assert extended.sandbox.expires_at > made.sandbox.expires_at
    left = await manager.unregister_guild(alice, managed)
    assert (left.unconfirmed, left.sandbox.guild_ids) == ((NOBODY_ASKED,), ())
    again = await manager.register_guild(alice, "mine", managed)
    assert (again.unconfirmed, again.sandbox.guild_ids) == ((NOBODY_ASKED,), (managed.guild_id,))
    gone = await manager.destroy(alice, "mine")
    assert (gone.unconfirmed, gone.sandbox.status) == ((NOBODY_ASKED,), SandboxStatus.DESTROYED)
    assert await world.left_of(gone.sandbox) == []


@any_fault
async def test_noting_a_step(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    await world.manager.create(alice, name="mine")
    monkeypatch.setattr(cleanup_rows, "step_done", failing(fault))
    gone = await world.manager.destroy(alice, "mine")
    assert gone.sandbox.status is SandboxStatus.DESTROYED


@any_fault
async def test_giving_back_the_claim(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    class Unanswering:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        async def execute(self, statement: str, *arguments: object) -> None:
            raise fault

    real = claims.KeptConnection.standing.fget
    assert real is not None
    monkeypatch.setattr(
        claims.KeptConnection,
        "standing",
        property(lambda kept: None if (found := real(kept)) is None else _half(found, Unanswering)),
    )
    made = await world.manager.create(alice, name="mine")
    assert made.sandbox.status is SandboxStatus.RUNNING
    gone = await world.manager.destroy(alice, "mine")
    assert gone.sandbox.status is SandboxStatus.DESTROYED


def _half(connection: Any, fails: type) -> Any:
    """The connection, which fails only when something is given back."""

    class Half(fails):  # type: ignore[misc]
        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    return Half(connection)


@any_fault
async def test_giving_back_the_connection_that_has_committed(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    made = await world.manager.create(alice, name="mine")
    real = pool._release

    def release(of: Any, connection: Any) -> Any:
        async def fail() -> None:
            await real(of, connection)
            raise fault

        task = asyncio.ensure_future(fail())
        task.add_done_callback(pool._released)
        return task

    monkeypatch.setattr(pool, "_release", release)
    extended = await world.manager.extend(alice, "mine", "1h")
    assert extended.sandbox.expires_at > made.sandbox.expires_at
    async with transaction(world.pool) as connection:
        await connection.execute("UPDATE sandboxes SET metadata = '{}'")
    monkeypatch.undo()
    async with connected(world.pool) as connection:
        assert await connection.fetchval("SELECT metadata FROM sandboxes") == {}


async def test_a_fault_in_noting_the_failure_does_not_hide_it(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.manager.create(alice, name="mine")
    world.redis_part.before_drop.append(DependencyUnavailable("Redis", "it can't be reached"))
    monkeypatch.setattr(cleanup_rows, "failed", failing(ValueError("x")))
    with pytest.raises(Exception, match="SANDBOX_006"):
        await world.manager.destroy(alice, "mine")
    assert (await world.manager.get("mine")).status is SandboxStatus.DESTROYING
    monkeypatch.undo()
    assert (await world.manager.destroy(alice, "mine")).sandbox.status is SandboxStatus.DESTROYED
