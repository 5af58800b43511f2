"""A sandbox on the sandboxes' NATS server: its worker is let in, gets events, and is cut off at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from sandbox_bot.embedded import TenantNatsServer
from sandbox_core.errors import DependencyUnavailable, SlotsUsedUp
from sandbox_core.models import Sandbox
from sandbox_core.namespaces import PartState
from sandbox_core.postgres import nats_slots, transaction
from sandbox_core.postgres.pool import Pool

from .conftest import LIMITS, LONGEST, Bot, Worker, bot_process, eventually, refused, sandbox_of, worker


@asynccontextmanager
async def workers(url: str, count: int = 3) -> AsyncIterator[list[Worker]]:
    """Several connections, each of which listens."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(worker(url)) for _ in range(count)]
        for each in made:
            await each.client.subscribe("_INBOX.news")
        yield made


async def all_cut(cut: list[Worker]) -> None:
    async with asyncio.timeout(10):
        for each in cut:
            await each.disconnected.wait()


async def test_a_worker_connects_gets_an_event_and_is_cut_off_at_the_end(bot: Bot) -> None:
    sandbox = await bot.sandbox()
    url = bot.url(sandbox)
    ack = await bot.send(sandbox, "hello", "s:0:1")
    assert (ack.stream, ack.seq, ack.duplicate) == ("SANDBOX", 1, None)

    async with worker(url) as client:
        js = client.client.jetstream(timeout=5)
        subscription = await js.pull_subscribe(
            f"sandbox.{sandbox.id}.events.*", durable="worker", stream="SANDBOX"
        )
        (message,) = await subscription.fetch(1, timeout=5)
        assert message.subject == f"sandbox.{sandbox.id}.events.MESSAGE_CREATE"
        assert message.data == b"hello"
        assert message.headers == {"Nats-Msg-Id": "s:0:1"}
        await message.ack()

        await bot.namespace.drop(sandbox)
        await all_cut([client])
    assert await refused(url)
    assert await bot.namespace.slot_of(sandbox.id) is None
    assert await bot.namespace.list_ids() == set()


async def test_a_repeated_message_id_is_told(bot: Bot, sandbox: Sandbox) -> None:
    assert (await bot.send(sandbox, "one", "s:0:1")).duplicate is None
    again = await bot.send(sandbox, "two", "s:0:1")
    assert (again.duplicate, again.seq) == (True, 1)


async def test_a_letter_with_an_events_id_hinders_no_event(bot: Bot, sandbox: Sandbox) -> None:
    async with worker(bot.url(sandbox)) as client:
        await client.client.jetstream().publish(
            f"sandbox.{sandbox.id}.events.dead_letter.X", b"x", headers={"Nats-Msg-Id": "s:0:1"}
        )
    assert (await bot.send(sandbox, "one", "s:0:1")).duplicate is None


async def test_a_rotation_lets_in_the_new_and_cuts_off_the_old_only(bot: Bot, sandbox: Sandbox) -> None:
    other, old = await bot.sandbox(), bot.url(sandbox)
    async with workers(old) as cut, workers(bot.url(other)) as untouched:
        rotated = sandbox.evolve(generation=2)
        await bot.logins.make(rotated)
        assert await refused(old)
        async with worker(bot.url(rotated)) as new:
            await bot.logins.cut(rotated)
            await all_cut(cut)
            assert new.client.is_connected
        assert all(each.client.is_connected for each in untouched)
    assert await bot.logins.lacking([rotated, other]) == set()


async def test_an_interrupted_rotation_is_found(bot: Bot, sandbox: Sandbox) -> None:
    rotated = sandbox.evolve(generation=2)
    assert await bot.logins.lacking([rotated]) == {sandbox.id}
    async with workers(bot.url(sandbox), 1):
        await bot.logins.make(rotated)
        # The old connection lives.
        assert await bot.logins.lacking([rotated]) == {sandbox.id}
        await bot.logins.cut(rotated)
        assert await bot.logins.lacking([rotated]) == set()


async def test_an_older_login_does_not_come_back(bot: Bot, sandbox: Sandbox) -> None:
    rotated = sandbox.evolve(generation=2)
    await bot.logins.make(rotated)
    await bot.logins.make(sandbox)
    assert await refused(bot.url(sandbox))
    assert not await refused(bot.url(rotated))


async def test_a_revoked_login_ends_its_connections_and_keeps_the_stream(bot: Bot, sandbox: Sandbox) -> None:
    await bot.send(sandbox, "kept")
    async with workers(bot.url(sandbox)) as cut:
        await bot.logins.revoke(sandbox)
        await all_cut(cut)
    assert await refused(bot.url(sandbox))
    assert (await bot.namespace.check(sandbox)).facts["messages"] == 1
    await bot.logins.make(sandbox)
    assert not await refused(bot.url(sandbox))


async def test_an_expired_sandbox_is_refused_until_it_is_extended(bot: Bot) -> None:
    expired = sandbox_of(life=timedelta(seconds=-1))
    bot.provisioned.append(expired)
    await bot.namespace.provision(expired)
    assert await refused(bot.url(expired))
    extended = expired.evolve(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert await bot.logins.lacking([extended]) == {expired.id}
    await bot.logins.make(extended)
    assert not await refused(bot.url(extended))


async def test_the_server_itself_ends_what_nobody_ends(bot: Bot) -> None:
    """The bot may be away at the end of a sandbox's longest life."""
    nearly = sandbox_of(life=timedelta(seconds=3))
    nearly = nearly.evolve(created_at=nearly.created_at - LONGEST)
    bot.provisioned.append(nearly)
    await bot.namespace.provision(nearly)
    async with worker(bot.url(nearly)) as client:
        await bot.responder.close()
        await all_cut([client])
        assert "expired" in str(client.client.last_error)


async def test_a_sandbox_from_before_this_server_gets_its_slot(bot: Bot) -> None:
    earlier = sandbox_of()
    bot.provisioned.append(earlier)
    assert await bot.logins.lacking([earlier]) == {earlier.id}
    await bot.logins.make(earlier)
    assert await bot.logins.lacking([earlier]) == set()
    assert not await refused(bot.url(earlier))
    assert (await bot.send(earlier, "x")).seq == 1


async def test_dropping_again_is_no_error(bot: Bot, sandbox: Sandbox) -> None:
    await bot.namespace.drop(sandbox)
    await bot.namespace.drop(sandbox)
    await bot.namespace.drop(sandbox_of())


async def test_its_part_is_checked(bot: Bot, sandbox: Sandbox) -> None:
    await bot.send(sandbox, "x" * 100)
    async with workers(bot.url(sandbox), 2):
        health = await bot.namespace.check(sandbox)
    assert (health.state, health.detail) == (PartState.HEALTHY, "1 event stored")
    facts = dict(health.facts)
    assert facts["connections"] == 2
    assert (facts["messages"], facts["dead_letters"], facts["consumers"]) == (1, 0, 0)
    assert facts["bytes_limit"] == LIMITS.memory * 5 // 8
    assert (await bot.namespace.check(sandbox_of())).state is PartState.UNHEALTHY


async def test_every_slot_is_lent_once_and_rests_before_it_is_lent_again(
    server: TenantNatsServer, pool: Pool
) -> None:
    async with bot_process(pool, server.url, rest=timedelta(hours=1)) as bot:
        made = [sandbox_of() for _ in range(LIMITS.slots)]
        await asyncio.gather(*(bot.namespace.provision(each) for each in made))
        assert {await bot.slot(each) for each in made} == set(range(LIMITS.slots))
        assert await bot.namespace.list_ids() == {str(each.id) for each in made}
        with pytest.raises(SlotsUsedUp):
            await bot.namespace.provision(sandbox_of())
        for each in made:
            await bot.namespace.drop(each)
        with pytest.raises(SlotsUsedUp):
            await bot.namespace.provision(sandbox_of())
    async with bot_process(pool, server.url) as bot:
        await bot.sandbox()
        await bot.namespace.drop(bot.provisioned[0])


async def test_a_restarted_server_gets_its_streams_again(
    bot: Bot, sandbox: Sandbox, server: TenantNatsServer
) -> None:
    await bot.send(sandbox, "gone with the server's memory")
    await server.kill()
    assert not server.running
    await server.start()

    async def is_well() -> bool:
        try:
            return (await bot.namespace.check(sandbox)).state is PartState.HEALTHY
        except DependencyUnavailable:
            return False

    await eventually(is_well)
    assert await bot.lending.restore() == []
    assert (await bot.send(sandbox, "new")).seq == 1
    # The responder has survived the reconnect.
    assert not await refused(bot.url(sandbox))


async def test_missing_streams_are_seen(bot: Bot, sandbox: Sandbox) -> None:
    await bot.streams.remove(await bot.slot(sandbox))
    assert (await bot.namespace.check(sandbox)).state is PartState.DEGRADED
    assert await bot.lending.restore() == [sandbox.id]
    assert (await bot.namespace.check(sandbox)).state is PartState.HEALTHY


async def test_a_server_that_comes_later(server: TenantNatsServer, pool: Pool) -> None:
    await server.kill()
    async with bot_process(pool, server.url) as bot:
        with pytest.raises(DependencyUnavailable):
            await bot.namespace.provision(sandbox_of())
        await server.start()

        async def is_there() -> bool:
            try:
                await bot.sandbox()
            except DependencyUnavailable:
                return False
            return not await refused(bot.url(bot.provisioned[-1]))

        await eventually(is_there, within=30)
        for sandbox in bot.provisioned:
            await bot.namespace.drop(sandbox)


async def test_what_a_lost_database_knew_is_found_and_removed(bot: Bot, sandbox: Sandbox) -> None:
    """A stream and a connection in a slot that the table calls free."""
    async with workers(bot.url(sandbox), 1) as cut:
        async with transaction(bot.pool) as connection:
            await nats_slots.free(connection, sandbox.id, at=datetime.now(UTC))
        assert await bot.namespace.list_ids() == {str(sandbox.id)}

        async def is_orphan() -> bool:
            return True

        assert await bot.namespace.drop_orphan(str(sandbox.id), is_orphan)
        await all_cut(cut)
    assert await bot.namespace.list_ids() == set()


async def test_a_new_sandbox_inherits_nothing_of_its_slot(bot: Bot, sandbox: Sandbox) -> None:
    slot = await bot.slot(sandbox)
    await bot.send(sandbox, "secret")
    async with workers(bot.url(sandbox), 1) as cut:
        async with transaction(bot.pool) as connection:
            await nats_slots.free(connection, sandbox.id, at=datetime.now(UTC))
            await connection.execute(
                "UPDATE nats_slots SET freed_at = now() WHERE sandbox_id IS NULL AND slot <> $1", slot
            )
            await connection.execute("UPDATE nats_slots SET freed_at = NULL WHERE slot = $1", slot)
        new = await bot.sandbox()
        assert await bot.slot(new) == slot
        await all_cut(cut)
    assert (await bot.namespace.check(new)).facts["messages"] == 0
