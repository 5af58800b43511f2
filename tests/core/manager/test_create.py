"""Creating a sandbox: what it is made of, and what refuses it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from sandbox_core.errors import (
    BotNotInGuild,
    GuildAlreadyMapped,
    GuildProtected,
    InvalidInput,
    NameTaken,
    NotPermitted,
    OwnerLimitReached,
    SandboxError,
    SchemaCreationFailed,
)
from sandbox_core.models import Actor, AuditEvent, GuildAccess, SandboxStatus

from .conftest import PROTECTED, START, World

GUILDS = [GuildAccess(f"10000000000000000{n}", bot_is_member=True, caller_manages=True) for n in range(1, 4)]


async def test_a_new_sandbox_runs_with_its_guilds(world: World, alice: Actor) -> None:
    sandbox = (
        await world.manager.create(alice, name="welcome-flow", ttl="2h", guilds=[GUILDS[1], GUILDS[0]])
    ).sandbox

    assert sandbox.status is SandboxStatus.RUNNING
    assert sandbox.owner == alice.id
    assert sandbox.owner_name == "Alice"
    assert (sandbox.created_at, sandbox.expires_at) == (START, START + timedelta(hours=2))
    assert sandbox.guild_ids == (GUILDS[0].guild_id, GUILDS[1].guild_id)
    assert sandbox == await world.manager.get("welcome-flow")
    assert await world.provisioner.exists(sandbox.schema_name)
    assert world.routes.sandbox_of(GUILDS[0].guild_id) == str(sandbox.id)
    assert world.routes.current[GUILDS[1].guild_id].expires_at == sandbox.expires_at.timestamp()  # type: ignore[union-attr]
    assert len(world.observed.created_seconds) == 1

    log = await world.audit(sandbox.id)
    assert [(entry.event_type, entry.actor) for entry in log] == [
        (AuditEvent.CREATED, alice.id),
        (AuditEvent.STATUS_CHANGED, alice.id),
        (AuditEvent.STATUS_CHANGED, alice.id),
        (AuditEvent.GUILD_REGISTERED, alice.id),
        (AuditEvent.GUILD_REGISTERED, alice.id),
    ]
    assert [entry.details for entry in log[1:3]] == [
        {"from": "pending", "to": "creating"},
        {"from": "creating", "to": "running"},
    ]


async def test_name_and_life_have_defaults(world: World, alice: Actor) -> None:
    sandbox = (await world.manager.create(alice)).sandbox
    assert sandbox.name.startswith("sandbox-alice-")
    assert sandbox.expires_at == START + timedelta(hours=24)
    assert world.routes.changes == []


async def test_a_display_name_may_be_anything(world: World) -> None:
    sandbox = (await world.manager.create(Actor("200000000000000003", "\0 Ünï🎉"))).sandbox
    assert sandbox.owner_name == "\ufffd Ünï🎉"
    assert (
        await world.manager.create(Actor("200000000000000004"))
    ).sandbox.owner_name == "200000000000000004"


async def test_bad_input_changes_nothing(world: World, alice: Actor) -> None:
    names = ["", "a" * 64, "Upper", "a;drop table", "*", ">", "..", "w\u0435lcome", "-ab", "ab-", "abc\n"]
    lives = ["0", "-1h", "10y", "abc", "169h", ""]
    for name in names:
        with pytest.raises(InvalidInput):
            await world.manager.create(alice, name=name)
    for ttl in lives:
        with pytest.raises(InvalidInput):
            await world.manager.create(alice, ttl=ttl)
    assert await world.rows() == []
    assert world.observed.failures == ["SANDBOX_007"] * len(names + lives)


@pytest.mark.parametrize(
    ("access", "error"),
    [
        (GuildAccess("12", bot_is_member=True, caller_manages=True), InvalidInput),
        (GuildAccess(GUILDS[0].guild_id, bot_is_member=False, caller_manages=True), BotNotInGuild),
        (GuildAccess(GUILDS[0].guild_id, bot_is_member=True, caller_manages=False), NotPermitted),
        (GuildAccess(PROTECTED, bot_is_member=True, caller_manages=True), GuildProtected),
    ],
)
async def test_a_guild_that_may_not_be_diverted_changes_nothing(
    world: World, alice: Actor, access: GuildAccess, error: type[SandboxError]
) -> None:
    with pytest.raises(error):
        await world.manager.create(alice, guilds=[GUILDS[1], access])
    assert await world.rows() == []
    assert await world.manager.for_guild(GUILDS[1].guild_id) is None


async def test_a_mapped_guild_is_refused_before_anything_is_made(
    world: World, alice: Actor, bob: Actor
) -> None:
    first = (await world.manager.create(bob, name="first", guilds=[GUILDS[0]])).sandbox
    with pytest.raises(GuildAlreadyMapped) as refused:
        await world.manager.create(alice, guilds=GUILDS)
    assert (refused.value.guild_id, refused.value.sandbox_name) == (GUILDS[0].guild_id, "first")
    assert await world.rows() == [first]


async def test_a_name_is_free_again_after_destruction(world: World, alice: Actor, bob: Actor) -> None:
    first = (await world.manager.create(alice, name="shared")).sandbox
    with pytest.raises(NameTaken) as refused:
        await world.manager.create(bob, name="shared")
    assert refused.value.name == "shared"
    await world.manager.destroy(alice, "shared")
    second = (await world.manager.create(bob, name="shared")).sandbox
    assert second.id != first.id


async def test_the_limit_counts_what_is_not_destroyed(world: World, alice: Actor, bob: Actor) -> None:
    manager = world.with_limits(replace(world.limits, max_per_owner=2))
    await manager.create(alice, name="one")
    await manager.create(alice, name="two")
    with pytest.raises(OwnerLimitReached) as refused:
        await manager.create(alice, name="three")
    assert (refused.value.limit, refused.value.names) == (2, ("one", "two"))
    await manager.create(bob, name="bobs")
    await manager.destroy(alice, "one")
    await manager.create(alice, name="three")


async def test_simultaneous_creations_never_pass_the_limit(world: World, alice: Actor) -> None:
    outcomes = await asyncio.gather(*(world.manager.create(alice) for _ in range(20)), return_exceptions=True)
    made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(made) == world.limits.max_per_owner
    assert {type(error) for error in refused} == {OwnerLimitReached}
    assert len(await world.rows()) == world.limits.max_per_owner
    assert len(await world.provisioner.list_schemas()) == world.limits.max_per_owner


async def test_the_same_name_at_once_is_given_once(world: World, alice: Actor, bob: Actor) -> None:
    outcomes = await asyncio.gather(
        *(world.manager.create(actor, name="wanted") for actor in (alice, bob) * 2), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Changed"] + ["NameTaken"] * 3
    assert len(await world.provisioner.list_schemas()) == 1


async def test_a_short_id_in_use_is_not_shared(world: World, alice: Actor, bob: Actor) -> None:
    ids = [UUID(f"3f2a9c01-0000-4000-8000-00000000000{n}") for n in range(3)]
    first = (await world.with_ids(ids[:1]).create(alice)).sandbox
    second = (await world.with_ids(ids[1:]).create(bob)).sandbox
    assert first.schema_name == "sandbox_3f2a9c01"
    assert second.schema_name != first.schema_name
    assert {row.id for row in await world.rows()} == {first.id, second.id}


async def test_an_orphaned_schema_is_not_adopted(world: World, alice: Actor) -> None:
    await world.provisioner.create("sandbox_3f2a9c01")
    sandbox = (await world.with_ids([UUID("3f2a9c01-0000-4000-8000-000000000001")]).create(alice)).sandbox
    assert sandbox.schema_name != "sandbox_3f2a9c01"


async def test_without_a_free_short_id_it_gives_up(world: World, alice: Actor) -> None:
    await world.provisioner.create("sandbox_3f2a9c01")
    manager = world.with_ids([UUID(f"3f2a9c01-0000-4000-8000-00000000000{n}") for n in range(10)])
    with pytest.raises(SchemaCreationFailed):
        await manager.create(alice)
    assert await world.rows() == []


async def test_a_generated_name_in_use_is_replaced(
    world: World, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["sandbox-alice-000000", "sandbox-alice-000000", "sandbox-alice-111111"])
    monkeypatch.setattr("sandbox_core.manager.create.generate_name", lambda _owner: next(names))
    assert (await world.manager.create(alice)).sandbox.name == "sandbox-alice-000000"
    assert (await world.manager.create(alice)).sandbox.name == "sandbox-alice-111111"
