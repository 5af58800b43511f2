"""Orphans in every store, in both directions, beside names that only look like ours."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

from sandbox_core.cleanup import CLEANUP, Orphan
from sandbox_core.cleanup.results import MAPPINGS
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Actor, GuildAccess, Sandbox, short_id
from sandbox_core.nats.streams import MADE_BY, MARK
from sandbox_core.postgres import connected
from sandbox_core.subjects import sandbox_filter, sandbox_subject
from tests.streams import stream_of, streams_at

from .conftest import GUILDS, Yard

FOREIGN_SCHEMAS = [
    "sandbox_prod_backup",
    "sandbox_3f2a9c01_old",
    "sandbox_3F2A9C01",
    "sandbox_3f2a9c0",
    "sandbox_3f2a9c011",
    "sandbox_",
    "sandboxx3f2a9c01",
    "asandbox_3f2a9c01",
    "sandbox_3f2a9c01\n",
    'sandbox_"; DROP SCHEMA public; --',
]
FOREIGN_KEYS = [
    "sandbox:route:100000000000000001",
    "sandbox:gateway:1:1:0",
    "sandbox:cache:x",
    "sandbox:{id}",
    "sandbox:{ID}:upper",
    "xsandbox:{id}:a",
    "sandbox:{id}x:a",
    "sandbox:*:a",
    "other",
]
FOREIGN_STREAMS = [
    "SANDBOX",
    "SANDBOX_",
    "SANDBOX_prod",
    "SANDBOX_{SHORT}",
    "SANDBOX_{short}_old",
    "XSANDBOX_{short}",
]


async def schemas(yard: Yard) -> set[str]:
    async with connected(yard.pool) as connection:
        rows = await connection.fetch(
            "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
        )
    return {row["nspname"] for row in rows}


async def leave(yard: Yard, sandbox_id: UUID) -> None:
    """A schema, a key, an event and a consumer that carry this id."""
    async with connected(yard.pool) as connection:
        await connection.execute("SELECT create_sandbox_schema($1)", short_id(sandbox_id))
    await yard.redis.set(f"sandbox:{sandbox_id}:left", "x")
    await streams_at(yard.js).make(sandbox_id)
    await yard.js.publish(sandbox_subject(sandbox_id, "MESSAGE_CREATE"), b"{}")
    await yard.js.add_consumer(
        stream_of(sandbox_id),
        ConsumerConfig(
            durable_name=f"left-{short_id(sandbox_id)}",
            ack_policy=AckPolicy.EXPLICIT,
            filter_subject=sandbox_filter(sandbox_id),
        ),
    )


async def map_by_hand(yard: Yard, sandbox: Sandbox, guild_id: str) -> None:
    async with connected(yard.pool) as connection:
        await connection.execute(
            "INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by) VALUES ($1, $2, 'x')",
            guild_id,
            sandbox.id,
        )


def stores(orphans: tuple[Orphan, ...]) -> list[tuple[str, bool]]:
    return sorted((orphan.store, orphan.known) for orphan in orphans)


async def test_what_destroyed_sandboxes_left_is_found_and_only_then_removed(yard: Yard, alice: Actor) -> None:
    gone = await yard.sandbox(alice, "gone")
    await yard.manager.destroy(alice, "gone")
    live = await yard.sandbox(alice, "live")
    await leave(yard, gone.id)
    await map_by_hand(yard, gone, GUILDS[0])

    found = await yard.cleanup.find_orphaned_resources()

    assert stores(found.orphans) == [("NATS", True), ("PostgreSQL", True), ("Redis", True), (MAPPINGS, True)]
    assert {orphan.name for orphan in found.orphans} == {
        gone.schema_name,
        f"sandbox:{gone.id}:*",
        f"sandbox.{gone.id}.>",
        f"server {GUILDS[0]} to gone",
    }
    assert (found.degraded, dict(found.unreadable)) == ((), {})
    assert yard.counted.orphan_counts == {"PostgreSQL": 1, "Redis": 1, "NATS": 1, MAPPINGS: 1}
    assert await yard.left_of(gone) == ["schema", "keys", "events", "mappings"]

    _, done = await yard.cleanup.run()

    assert stores(done.removed) == stores(found.orphans)
    assert (done.spared, dict(done.failed)) == ((), {})
    assert await yard.left_of(gone) == []
    assert await yard.left_of(live) == ["schema", "keys", "events"]
    assert await streams_at(yard.js).names() == [stream_of(live.id)]
    assert {consumer.name for consumer in await yard.js.consumers_info(stream_of(live.id))} == {
        f"worker-{live.short_id}"
    }
    assert yard.routes.current[GUILDS[0]] is None
    *removed, mapping = (await yard.audit(gone))[-4:]
    assert mapping.details == {"guild_id": GUILDS[0], "reason": "orphaned"}
    assert {(entry.details["store"], entry.details["removed_orphan"]) for entry in removed} == {
        ("NATS", f"sandbox.{gone.id}.>"),
        ("PostgreSQL", gone.schema_name),
        ("Redis", f"sandbox:{gone.id}:*"),
    }
    assert {entry.actor for entry in (*removed, mapping)} == {CLEANUP.id}
    assert yard.counted.orphan_counts == {"PostgreSQL": 0, "Redis": 0, "NATS": 0, MAPPINGS: 0}
    assert (await yard.cleanup.find_orphaned_resources()).orphans == ()


async def test_who_removes_orphans_is_in_the_audit_log(yard: Yard, alice: Actor) -> None:
    gone = await yard.sandbox(alice, "gone")
    await yard.manager.destroy(alice, "gone")
    await leave(yard, gone.id)
    await yard.cleanup.cleanup_orphaned_resources(actor=Actor("cli:root"))
    assert [entry.actor for entry in (await yard.audit(gone))[-3:]] == ["cli:root"] * 3


async def test_ids_nobody_knows_are_shown_but_removed_only_on_request(yard: Yard) -> None:
    stranger = uuid4()
    await leave(yard, stranger)
    expected = [("NATS", False), ("PostgreSQL", False), ("Redis", False)]
    _, automatic = await yard.cleanup.run()
    assert (automatic.removed, stores(automatic.spared)) == ((), expected)
    assert yard.counted.orphan_counts == {"PostgreSQL": 1, "Redis": 1, "NATS": 1, MAPPINGS: 0}
    by_default = await yard.cleanup.cleanup_orphaned_resources()
    assert (by_default.removed, stores(by_default.spared)) == ((), expected)
    done = await yard.cleanup.cleanup_orphaned_resources(unknown=True)
    assert stores(done.removed) == expected
    assert (await yard.cleanup.find_orphaned_resources()).orphans == ()


async def test_names_that_only_look_like_ours_survive(yard: Yard, alice: Actor) -> None:
    gone = await yard.sandbox(alice, "gone")
    await yard.manager.destroy(alice, "gone")
    shapes = {"id": str(gone.id), "ID": str(gone.id).upper()}
    shorts = {"short": gone.short_id, "SHORT": gone.short_id.upper()}
    async with connected(yard.pool) as connection:
        for name in FOREIGN_SCHEMAS:
            await connection.execute('CREATE SCHEMA "' + name.replace('"', '""') + '"')
    keys = [shape.format(**shapes) for shape in FOREIGN_KEYS]
    await yard.redis.mset(dict.fromkeys(keys, "x"))
    streams = [shape.format(**shorts) for shape in FOREIGN_STREAMS]
    # Of others, though one has our name, and of ours, though not made for a sandbox.
    streams += ["SANDBOX_0123abcd", "SANDBOX_4567abcd"]
    for number, stream in enumerate(streams):
        metadata = {MADE_BY: MARK} if stream == "SANDBOX_4567abcd" else None
        await yard.js.add_stream(name=stream, subjects=[f"foreign.{number}"], metadata=metadata)
    await leave(yard, gone.id)
    before = await schemas(yard)

    done = await yard.cleanup.cleanup_orphaned_resources()

    assert stores(done.removed) == [("NATS", True), ("PostgreSQL", True), ("Redis", True)]
    assert before - await schemas(yard) == {gone.schema_name}
    assert sorted(await yard.redis.keys("*")) == sorted(keys)
    assert {str(info.config.name) for info in await yard.js.streams_info()} == set(streams)


async def test_other_streams_are_not_touched(yard: Yard, alice: Actor) -> None:
    gone = await yard.sandbox(alice, "gone")
    await yard.manager.destroy(alice, "gone")
    await yard.js.add_stream(
        StreamConfig(name="OTHER", subjects=[f"other.{gone.id}.>"], storage=StorageType.MEMORY)
    )
    await yard.js.publish(f"other.{gone.id}.events.X", b"{}")
    assert (await yard.cleanup.cleanup_orphaned_resources()).removed == ()
    assert (await yard.js.stream_info("OTHER")).state.messages == 1


async def test_a_creation_that_has_just_begun_is_no_orphan(yard: Yard, alice: Actor) -> None:
    seen: list[tuple[tuple[Orphan, ...], tuple[object, ...]]] = []

    async def look() -> None:
        done = await yard.cleanup.cleanup_orphaned_resources(unknown=True)
        seen.append((done.found.orphans, done.found.degraded))

    points = ["create:inserted", "create:PostgreSQL", "create:Redis", "create:NATS", "create:running"]
    for point in points:
        yard.faults.at[point] = look
    sandbox = await yard.sandbox(alice, "new")
    assert seen == [((), ())] * len(points)
    assert await yard.left_of(sandbox) == ["schema", "keys", "events"]


async def test_what_became_live_meanwhile_is_spared(yard: Yard, alice: Actor) -> None:
    """The list was made, and then a sandbox took the names."""
    sandbox = await yard.sandbox(alice, "mine")
    stale = tuple(
        Orphan(store, name, name, known=True)
        for store, name in (
            ("PostgreSQL", sandbox.short_id),
            ("Redis", str(sandbox.id)),
            ("NATS", str(sandbox.id)),
            (MAPPINGS, GUILDS[0]),
        )
    )
    await map_by_hand(yard, sandbox, GUILDS[0])
    found = await yard.cleanup.find_orphaned_resources()
    done = await yard.cleanup._search.remove(type(found)(orphans=stale), CLEANUP, unknown=True)
    assert (done.removed, done.spared, dict(done.failed)) == ((), stale, {})
    assert await yard.left_of(sandbox) == ["schema", "keys", "events", "mappings"]


async def test_a_schema_taken_between_the_question_and_the_drop_stays(yard: Yard, alice: Actor) -> None:
    """Two removals and a creation of the same schema at once, often: the live one's schema always stands."""
    for _ in range(10):
        taken = uuid4()
        async with connected(yard.pool) as connection:
            await connection.execute("SELECT create_sandbox_schema($1)", short_id(taken))
        ids = iter([taken, taken, taken])
        manager = yard.another_manager(new_id=lambda ids=ids: next(ids, None) or uuid4())
        await asyncio.gather(
            *(yard.another_cleanup().cleanup_orphaned_resources(unknown=True) for _ in range(2)),
            manager.create(alice),
        )
        report = await yard.cleanup.find_orphaned_resources()
        assert (report.orphans, report.degraded) == ((), ())


async def test_a_running_sandbox_without_its_schema_or_mapping_is_degraded(
    yard: Yard, alice: Actor, guilds: list[GuildAccess]
) -> None:
    no_schema = await yard.sandbox(alice, "no-schema")
    no_mapping = await yard.sandbox(alice, "no-mapping", guilds=guilds[:2])
    await yard.sandbox(alice, "whole", guilds=guilds[2:3])
    unregistered = await yard.sandbox(alice, "unregistered", guilds=guilds[3:4])
    await yard.manager.unregister_guild(alice, guilds[3])
    await yard.schemas.drop_schema(no_schema.schema_name)
    async with connected(yard.pool) as connection:
        await connection.execute("DELETE FROM sandbox_guild_mapping WHERE guild_id = $1", GUILDS[1])

    found = await yard.cleanup.find_orphaned_resources()

    assert {(damage.sandbox.name, damage.missing) for damage in found.degraded} == {
        ("no-schema", f"the schema {no_schema.schema_name}"),
        ("no-mapping", f"the mapping of server {GUILDS[1]}"),
    }
    assert found.orphans == ()
    assert await yard.left_of(unregistered) == ["schema", "keys", "events"]
    assert no_mapping.guild_ids == tuple(GUILDS[:2])


async def test_a_store_that_cannot_be_read_is_named_and_the_others_are_searched(
    yard: Yard, alice: Actor
) -> None:
    gone = await yard.sandbox(alice, "gone")
    await yard.manager.destroy(alice, "gone")
    await leave(yard, gone.id)
    yard.counted.orphan_counts["Redis"] = 7

    async def away() -> set[str]:
        raise DependencyUnavailable("Redis", "it can't be reached")

    yard.redis_part.list_ids = away  # type: ignore[method-assign]
    done = await yard.cleanup.cleanup_orphaned_resources()
    assert stores(done.removed) == [("NATS", True), ("PostgreSQL", True)]
    assert dict(done.found.unreadable) == {"Redis": "Redis is unavailable (it can't be reached)."}
    # What is not known is not counted as none.
    assert yard.counted.orphan_counts["Redis"] == 7


async def test_a_removal_that_fails_is_told_and_the_others_go_on(yard: Yard, alice: Actor) -> None:
    gone = await yard.sandbox(alice, "gone")
    await yard.manager.destroy(alice, "gone")
    await leave(yard, gone.id)
    yard.redis_part.failing[gone.id] = DependencyUnavailable("Redis", "it can't be reached")
    done = await yard.cleanup.cleanup_orphaned_resources()
    assert stores(done.removed) == [("NATS", True), ("PostgreSQL", True)]
    assert {orphan.store: reason for orphan, reason in done.failed.items()} == {
        "Redis": "Redis is unavailable (it can't be reached)."
    }
    assert yard.counted.orphan_counts == {"PostgreSQL": 0, "Redis": 1, "NATS": 0, MAPPINGS: 0}


@pytest.mark.parametrize("messages", [0, 3])
async def test_a_missing_stream_is_nothing_to_clean(yard: Yard, alice: Actor, messages: int) -> None:
    sandbox = await yard.sandbox(alice, "mine")
    for _ in range(messages):
        await yard.js.publish(sandbox_subject(sandbox.id, "X"), b"{}")
    await yard.js.delete_stream(stream_of(sandbox.id))
    assert (await yard.cleanup.find_orphaned_resources()).orphans == ()
    await yard.manager.destroy(alice, "mine")
    assert await yard.left_of(sandbox) == []
