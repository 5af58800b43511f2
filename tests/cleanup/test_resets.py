"""A reset is done once, as a whole: also when its process is killed, or a server is away in the middle."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox_core.errors import (
    DependencyUnavailable,
    DoesNotFit,
    NotPermitted,
    ResetUnfinished,
    SandboxNotRunning,
    StillWritten,
)
from sandbox_core.models import Actor, AuditEvent, GuildAccess, Resetting, Sandbox
from sandbox_core.namespaces import SchemaProvisioner
from sandbox_core.namespaces.client_traces import ClientTraces
from sandbox_core.postgres import connected
from sandbox_core.subjects import redis_prefix, sandbox_filter, sandbox_subject
from sandbox_core.templates import Templates
from tests.forked import start_forked

from .conftest import GUILDS, Yard, make_cleanup, make_manager
from .test_crashes import run_to_death

POINTS = ["reset:begun", "reset:PostgreSQL", "reset:Redis", "reset:NATS"]
SEED = "INSERT INTO public.communities (guild_id, name) VALUES ('100000000000000009', 'seed');\n"


@pytest.fixture
def shop(yard: Yard, tmp_path: Path) -> Path:
    """A directory of templates, and a manager that knows it."""
    (tmp_path / "shop.sql").write_text(SEED)
    yard.manager = make_manager(yard, templates=Templates(tmp_path))
    yard.cleanup = make_cleanup(yard, templates=Templates(tmp_path))
    return tmp_path


async def stored(yard: Yard, sandbox: Sandbox) -> tuple[list[str], int, int]:
    """The names in its table, and how many keys and messages it has."""
    async with connected(yard.pool) as connection:
        rows = await connection.fetch(f"SELECT name FROM {sandbox.schema_name}.communities ORDER BY 1")
    keys = [key async for key in yard.redis.scan_iter(f"{redis_prefix(sandbox.id)}*")]
    facts = (await yard.parts[2].check(sandbox)).facts
    return [row["name"] for row in rows], len(keys), int(facts["messages"]) + int(facts["dead_letters"])


async def test_everything_it_stores_goes_and_the_rest_stays(
    yard: Yard, shop: Path, alice: Actor, guilds: list[GuildAccess]
) -> None:
    made = await yard.sandbox(alice, "mine", guilds=guilds[:1], template="shop")
    other = await yard.sandbox(alice, "other")
    assert await stored(yard, made) == (["seed", "x"], 1, 1)
    before, told = await yard.row(made), dict(yard.routes.current)

    done = (await yard.manager.reset(alice, "mine")).sandbox
    assert await stored(yard, made) == (["seed"], 0, 0)
    assert await stored(yard, other) == (["x"], 1, 1)
    after = await yard.row(made)
    assert (
        after
        == before.evolve(last_activity_at=after.last_activity_at)
        == done.evolve(last_activity_at=after.last_activity_at)
    )
    # No route has changed, and a bot's session at the endpoint goes on.
    assert yard.routes.current == told
    assert str(made.id) in await ClientTraces(yard.redis).ids()
    entry = (await yard.audit(made))[-1]
    assert (entry.event_type, entry.actor) == (AuditEvent.RESET, alice.id)
    assert entry.details == {"template": "shop"}
    # What comes from now on is stored, and the worker's consumer goes on with it.
    await yard.js.publish(sandbox_subject(made.id, "MESSAGE_CREATE"), b"new")
    worker = await yard.js.pull_subscribe(sandbox_filter(made.id), durable=f"worker-{made.short_id}")
    assert [message.data for message in await worker.fetch(1, timeout=5)] == [b"new"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("finisher", ["the bot", "a repetition"])
async def test_a_killed_reset_is_finished(
    yard: Yard,
    shop: Path,
    alice: Actor,
    database_url: str,
    redis_url: str,
    nats_url: str,
    point: str,
    finisher: str,
) -> None:
    # The other process has a real clock.
    yard.clock.forward(seconds=(datetime.now(UTC) - yard.clock()).total_seconds())
    made = await yard.sandbox(alice, "mine", template="shop")
    task = {
        "database_url": database_url,
        "redis_url": redis_url,
        "nats_url": nats_url,
        "templates": str(shop),
        "guilds": GUILDS[:1],
        "do": "reset",
        "die_at": point,
    }
    process = await start_forked(json.dumps(task), environment=os.environ, module="tests.cleanup.mortal")
    await run_to_death(yard, process)
    expected = Resetting.SCHEMA if point == "reset:begun" else Resetting.REST
    assert (await yard.row(made)).resetting is expected
    # What is new stays until then, and what is old goes.
    if finisher == "the bot":
        assert [each.id for each in await yard.cleanup.finish_resets()] == [made.id]
        assert await yard.cleanup.finish_resets() == []
        actor = "cleanup"
    else:
        await yard.manager.reset(alice, "mine")
        actor = alice.id
    assert await stored(yard, made) == (["seed"], 0, 0)
    assert (await yard.row(made)).resetting is Resetting.NO
    assert [(each.event_type, each.actor) for each in await yard.audit(made)][-1] == (AuditEvent.RESET, actor)


@pytest.mark.parametrize("store", [0, 1, 2])
async def test_a_store_that_is_away_is_finished_later(yard: Yard, alice: Actor, store: int) -> None:
    made = await yard.sandbox(alice, "mine")
    yard.parts[store].away = DependencyUnavailable(yard.parts[store].store, "connection refused")
    with pytest.raises(ResetUnfinished) as unfinished:
        await yard.manager.reset(alice, "mine")
    assert unfinished.value.step == yard.parts[store].store
    assert await yard.cleanup.finish_resets() == []
    yard.parts[store].away = None
    assert [each.id for each in await yard.cleanup.finish_resets()] == [made.id]
    assert await stored(yard, made) == ([], 0, 0)


async def test_a_template_that_does_not_fit_any_more_changes_nothing(
    yard: Yard, shop: Path, alice: Actor
) -> None:
    made = await yard.sandbox(alice, "mine", template="shop")
    (shop / "shop.sql").write_text(SEED + "SELEC 1;")
    before = await yard.row(made)
    with pytest.raises(DoesNotFit) as refused:
        await yard.manager.reset(alice, "mine")
    assert "line 2" in refused.value.what
    assert await stored(yard, made) == (["seed", "x"], 1, 1)
    assert await yard.row(made) == before
    assert (await yard.audit(made))[-1].details["code"] == "SANDBOX_015"
    (shop / "shop.sql").unlink()
    with pytest.raises(DoesNotFit):
        await yard.manager.reset(alice, "mine")
    # Without it, or with another one, it goes on.
    await yard.manager.reset(alice, "mine", template="none")
    assert await stored(yard, made) == ([], 0, 0)
    (shop / "other.sql").write_text(SEED)
    await yard.manager.reset(alice, "mine", template="other")
    assert (await yard.row(made)).template == "other"
    await yard.manager.reset(alice, "mine")
    assert await stored(yard, made) == (["seed"], 0, 0)


async def test_a_killed_reset_whose_template_fails_is_given_up(yard: Yard, shop: Path, alice: Actor) -> None:
    made = await yard.sandbox(alice, "mine", template="shop")
    async with connected(yard.pool) as connection:
        await connection.execute("UPDATE sandboxes SET resetting = 'schema' WHERE id = $1", made.id)
    (shop / "shop.sql").write_text("SELECT 1/0;")
    assert await yard.cleanup.finish_resets() == []
    assert (await yard.row(made)).resetting is Resetting.NO
    assert await stored(yard, made) == (["seed", "x"], 1, 1)


async def test_two_at_once_come_one_after_the_other(yard: Yard, shop: Path, alice: Actor) -> None:
    made = await yard.sandbox(alice, "mine", template="shop")
    running, most = 0, 0

    async def counted(point: str) -> None:
        nonlocal running, most
        running += (point == "reset:begun") - (point == "reset:NATS")
        most = max(most, running)
        await asyncio.sleep(0.02)

    managers = [make_manager(yard, templates=Templates(shop), faults=counted) for _ in range(3)]
    await asyncio.gather(*(each.reset(alice, "mine") for each in managers))
    assert most == 1
    assert await stored(yard, made) == (["seed"], 0, 0)
    assert [each.event_type for each in await yard.audit(made)].count(AuditEvent.RESET) == 3


async def test_a_sandbox_that_is_destroyed_meanwhile_leaves_nothing(yard: Yard, alice: Actor) -> None:
    made = await yard.sandbox(alice, "mine")
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def wait(point: str) -> None:
        if point == "reset:begun":
            begun.set()
            await goes_on.wait()

    resetting = asyncio.create_task(make_manager(yard, faults=wait).reset(alice, "mine"))
    await begun.wait()
    await make_manager(yard).destroy(alice, "mine")
    goes_on.set()
    with pytest.raises(Exception, match="mine"):
        await resetting
    assert await yard.left_of(made) == []


async def test_who_may_and_when(yard: Yard, alice: Actor) -> None:
    made = await yard.sandbox(alice, "mine")
    with pytest.raises(NotPermitted):
        await yard.manager.reset(Actor("200000000000000002", "Bob"), "mine")
    yard.redis_part.failing[made.id] = StillWritten("Redis", "keys")
    with pytest.raises(ResetUnfinished):
        await yard.manager.reset(alice, "mine")
    yard.clock.forward(hours=100)
    with pytest.raises(SandboxNotRunning):
        await yard.manager.reset(alice, "mine")
    # What has expired is removed, and not reset.
    assert await yard.cleanup.finish_resets() == []
    yard.redis_part.failing.clear()
    assert len((await yard.cleanup.cleanup_expired()).destroyed) == 1
    assert await yard.left_of(made) == []


async def test_events_in_the_middle_are_stored_before_or_after(yard: Yard, alice: Actor) -> None:
    made = await yard.sandbox(alice, "mine")
    sent = 0
    over = asyncio.Event()

    async def publish() -> None:
        nonlocal sent
        while not over.is_set():
            sent += 1
            await yard.js.publish(sandbox_subject(made.id, "MESSAGE_CREATE"), str(sent).encode())

    publishing = asyncio.create_task(publish())
    await yard.manager.reset(alice, "mine")
    at_the_end = sent
    over.set()
    # No event found its stream missing.
    await publishing
    await yard.js.publish(sandbox_subject(made.id, "MESSAGE_CREATE"), b"last")
    facts = (await yard.parts[2].check(made)).facts
    assert 1 <= int(facts["messages"]) <= at_the_end + 1


async def test_the_schema_is_whole_for_others_all_the_time(yard: Yard, alice: Actor) -> None:
    made = await yard.sandbox(alice, "mine")
    resetting = asyncio.create_task(yard.manager.reset(alice, "mine"))
    while not resetting.done():
        assert await SchemaProvisioner(yard.pool).exists(made.schema_name)
    await resetting
