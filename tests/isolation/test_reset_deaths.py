"""A reset that is overtaken, or dies with a step half done: nothing is taken for whole, or made valid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis import exceptions as rd

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable, DoesNotFit, ResetUnfinished, SandboxNotFound
from sandbox_core.models import Sandbox

from .conftest import ALICE, Held, held, hold, opened, settings_of
from .test_deaths import nothing_left
from .test_life import both_refused, both_work
from .test_reset import SEED, fill, stored
from .test_sharing import users_of


@pytest.fixture
async def shop(core: Core, closed: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Core]:
    """A core with one template; `core` removes the sandboxes."""
    (tmp_path / "shop.sql").write_text(SEED)
    async with opened(settings_of(closed, sandbox_templates_dir=str(tmp_path))) as made:
        yield made


class Died(Exception):
    """The process goes no further."""


def side(core: Core, number: int) -> Any:
    """Where a store's new sandboxes are."""
    sides: Any = core.namespaces[number]
    return sides._new


async def overtaken(core: Core, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Reset `mine` until its part of Redis is made anew, and do this as its keys have just gone."""
    redis = side(core, 1)
    delete_keys = redis.delete_keys

    async def and_then(sandbox_id: object) -> int:
        monkeypatch.setattr(redis, "delete_keys", delete_keys)
        removed: int = await delete_keys(sandbox_id)
        await getattr(core.manager, what)(ALICE, "mine")
        return removed

    async def die(point: str) -> None:
        if point == "reset:Redis":
            raise Died

    monkeypatch.setattr(redis, "delete_keys", and_then)
    manager = core.manager
    monkeypatch.setattr(manager, "_tools", replace(manager._tools, faults=die))
    with pytest.raises(Died):
        await manager.reset(ALICE, "mine")


async def refused_by_redis(mine: Held) -> None:
    async with mine.redis() as redis:
        with pytest.raises(rd.AuthenticationError):
            await redis.ping()


async def test_no_user_is_made_of_a_sandbox_that_has_just_ended(
    core: Core, mine: Held, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await overtaken(core, monkeypatch, "destroy")
    await refused_by_redis(mine)
    assert await users_of(core, mine.sandbox) == 0
    await nothing_left(core, mine.sandbox, admin)


async def test_no_role_is_made_of_a_sandbox_that_has_just_ended(
    core: Core, mine: Held, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reset has ended the sessions, and would go on to make the schema and the role that are gone."""
    roles = side(core, 0).credentials
    end_sessions = roles.end_sessions

    async def and_then(sandbox: Sandbox) -> None:
        monkeypatch.setattr(roles, "end_sessions", end_sessions)
        await end_sessions(sandbox)
        await core.manager.destroy(ALICE, "mine")

    async def die(point: str) -> None:
        if point == "reset:PostgreSQL":
            raise Died

    monkeypatch.setattr(roles, "end_sessions", and_then)
    manager = core.manager
    monkeypatch.setattr(manager, "_tools", replace(manager._tools, faults=die))
    with pytest.raises((Died, SandboxNotFound)):
        await manager.reset(ALICE, "mine")
    await both_refused(mine)
    await nothing_left(core, mine.sandbox, admin)


async def test_no_password_of_before_a_rotation_is_made_valid_again(
    core: Core, mine: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await overtaken(core, monkeypatch, "rotate")
    await refused_by_redis(mine)
    await both_work(held(core, await core.manager.get("mine")))


async def test_a_schema_that_is_half_gone_does_not_come_back(
    shop: Core, admin: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was being dropped as the process died; then a reset with something that does not fit is given up."""
    mine = held(shop, (await shop.manager.create(ALICE, name="mine", template="shop")).sandbox)
    fresh = await stored(shop, admin, mine)
    await fill(mine)

    async def half(schema: str, _within: float) -> bool:
        await admin.execute(f"DROP TABLE {schema}.more")
        raise DependencyUnavailable("PostgreSQL", "it is away")

    with monkeypatch.context() as patched:
        patched.setattr(side(shop, 0), "_drop_whole", half)
        with pytest.raises(ResetUnfinished):
            await shop.manager.reset(ALICE, "mine")
    (tmp_path / "shop.sql").write_text("SELECT 1/0;")
    with pytest.raises(DoesNotFit):
        await shop.manager.reset(ALICE, "mine")
    rows, objects, _, _ = await stored(shop, admin, mine)
    assert (rows, objects) == fresh[:2] == (["seed"], fresh[1])
    (tmp_path / "shop.sql").write_text(SEED)
    await shop.manager.reset(ALICE, "mine")
    assert await stored(shop, admin, mine) == fresh
    assert await schemas(admin) == [mine.schema]


@pytest.mark.parametrize("appended", ["_old", "_gone"])
async def test_what_a_reset_set_aside_is_found_without_its_sandbox(
    core: Core, admin: asyncpg.Connection, appended: str
) -> None:
    """The sandbox was destroyed during a reset, whose process died right after it had set this aside."""
    mine = await hold(core, "mine")
    await core.manager.destroy(ALICE, "mine")
    other = await hold(core, "other")
    await admin.execute(f"ALTER SCHEMA {other.schema} RENAME TO {mine.schema}{appended}")
    await core.manager.destroy(ALICE, "other")
    assert await schemas(admin) == [f"{mine.schema}{appended}"]
    found = await core.cleanup.find_orphaned_resources()
    assert [(each.store, each.id, each.known) for each in found.orphans] == [
        ("PostgreSQL", mine.sandbox.short_id, True)
    ]
    done = await core.cleanup.cleanup_orphaned_resources()
    assert (len(done.removed), done.spared) == (1, ())
    assert await schemas(admin) == []


async def schemas(admin: asyncpg.Connection) -> list[str]:
    rows = await admin.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sandbox\\_%' ORDER BY 1")
    return [row["nspname"] for row in rows]
