"""A sandbox's live events over its own NATS account: from a registered server to a worker, until the cut."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import aclosing
from uuid import uuid4

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.context import SandboxContext, environment
from sandbox_core.models import Actor
from sandbox_core.settings import Settings
from sandbox_core.subjects import DEFAULT_NAMES
from tests.conftest import revive
from tests.streams import EVERY_SANDBOX, count_of, names_of

from .conftest import ALICE, BOB, LOGINS, Held, held, hold, opened, settings_of
from .gateway import (
    MINE,
    OTHER,
    PRODUCTION,
    Gateway,
    access,
    eventually,
    is_refused,
    publishing,
    worker,
)


@pytest.fixture
def gateway(bot: Core) -> Gateway:
    return Gateway(bot, uuid4().hex)


async def registered(bot: Core, name: str, guild_id: str, owner: Actor = ALICE) -> Held:
    await hold(bot, name, owner)
    await bot.manager.register_guild(owner, name, access(guild_id))
    return held(bot, await bot.manager.get(name))


async def test_a_plain_client_gets_live_events_until_it_is_cut(bot: Core, gateway: Gateway) -> None:
    mine = await registered(bot, "mine", MINE)
    other = await registered(bot, "other", OTHER, BOB)
    url = mine.variables["NATS_URL"]
    async with worker(url) as reads, worker(other.variables["NATS_URL"]) as neighbour:
        await reads.subscribe(mine.sandbox.id)
        await neighbour.subscribe(other.sandbox.id)
        for number in range(5):
            made = gateway.send(MINE, f"for mine {number}")
            gateway.send(PRODUCTION)
            message = await reads.next()
            assert (message.subject, message.headers["Nats-Msg-Id"]) == (
                f"sandbox.{mine.sandbox.id}.events.MESSAGE_CREATE",
                made,
            )
            assert f"for mine {number}".encode() in message.data
        await gateway.done()

        rotated = held(bot, (await bot.manager.rotate(ALICE, "mine")).sandbox)
        async with asyncio.timeout(10):
            await reads.ended.wait()
        assert await is_refused(url)
        # The neighbour is as it was.
        made = gateway.send(OTHER)
        assert (await neighbour.next()).headers["Nats-Msg-Id"] == made

    async with worker(rotated.variables["NATS_URL"]) as reads:
        await reads.subscribe(mine.sandbox.id)
        made = gateway.send(MINE)
        gateway.send(PRODUCTION)
        assert (await reads.next()).headers["Nats-Msg-Id"] == made
        await bot.manager.destroy(ALICE, "mine")
        async with asyncio.timeout(10):
            await reads.ended.wait()
    assert await is_refused(rotated.variables["NATS_URL"])
    back = gateway.send(MINE)
    gateway.send(PRODUCTION)
    await gateway.done()
    assert await gateway.production() == sorted(
        [*gateway.sent[PRODUCTION], back], key=lambda made: int(made.rsplit(":", 1)[1])
    )
    assert bot.publishers.sandboxes_trouble == ""
    # Neither has a stream on the bot's own server, which other tests use too.
    names = {each.config.name for each in await bot.js.streams_info()}
    assert "EVENTS" in names
    assert not names & {DEFAULT_NAMES.sandbox_stream(each.sandbox.id) for each in (mine, other)}
    assert await bot.sandbox_js.streams_info() == []


async def test_the_context_gets_them_and_its_dead_letters_are_found(bot: Core, gateway: Gateway) -> None:
    mine = await registered(bot, "mine", MINE)
    # What the operator's shell has besides is of other servers.
    shell = {"SANDBOX_NATS_URL": "nats://127.0.0.1:1", "NATS_SANDBOX_STREAM": "SHARED"}
    variables = shell | environment(mine.sandbox) | dict(mine.variables)
    assert set(mine.variables) >= LOGINS
    gateway.send(MINE, "before it starts")
    async with (
        SandboxContext.from_env(variables) as context,
        aclosing(context.events("MESSAGE_CREATE", max_deliveries=1)) as events,
    ):
        assert b"before it starts" in (await anext(events)).raw
        gateway.send(MINE, "live")
        assert b"live" in (await anext(events)).raw
        await events.failed(ValueError())
    sandbox_id = mine.sandbox.id
    assert await bot.dead_letters.counts() == {str(sandbox_id): 1}
    (letter,) = await bot.dead_letters.list(sandbox_id, limit=10)
    part = (await bot.manager.health("mine")).parts[2]
    assert (part.store, part.state, part.facts["dead_letters"]) == ("NATS", "healthy", 1)
    await bot.dead_letters.replay(letter)
    assert await bot.dead_letters.counts() == {}


async def test_another_process_reads_the_session_back(
    bot: Core, gateway: Gateway, enforced: Settings
) -> None:
    await registered(bot, "mine", MINE)
    await registered(bot, "other", OTHER, BOB)
    for guild_id in (MINE, PRODUCTION, OTHER, MINE, PRODUCTION):
        gateway.send(guild_id)
    await gateway.done()
    async with opened(enforced) as second:
        found = await second.stored_events.sequences(gateway.session, 0, after=1, since=time.time() - 60)
    assert found == {2, 3, 4, 5}


async def test_what_is_stored_already_is_no_second_event(bot: Core, gateway: Gateway) -> None:
    """The shard's frames come once more, as after a lost acknowledgement."""
    mine = await registered(bot, "mine", MINE)
    gateway.send(MINE, "once")
    await gateway.done()
    bot.intake.lose(0)
    again = Gateway(bot, gateway.session + "x")
    again.session = gateway.session
    bot.intake.adopt(gateway.session, 0, 0)
    again.send(MINE, "once")
    again.send(MINE, "and the next")
    await again.done()
    assert (await bot.manager.health("mine")).parts[2].facts["messages"] == 2
    assert mine.sandbox.generation == 1


async def test_a_server_that_restarts_or_hangs_holds_up_nothing_of_production(
    bot: Core, gateway: Gateway, closed: EmbeddedServers
) -> None:
    mine = await registered(bot, "mine", MINE)
    await closed.tenant_nats.restart()
    made = gateway.send(MINE, "after the restart")
    await gateway.done()
    async with worker(mine.variables["NATS_URL"]) as reads:
        await reads.subscribe(mine.sandbox.id)
        assert (await reads.next()).headers["Nats-Msg-Id"] == made

    os.kill(closed.tenant_nats.pid, signal.SIGSTOP)
    try:
        waiting = gateway.send(MINE, "waits")
        for _ in range(50):
            gateway.send(PRODUCTION)

        async def production_is_done() -> bool:
            return await gateway.production() == gateway.sent[PRODUCTION]

        await eventually(production_is_done)
        assert bot.router.backlog.count == 0
    finally:
        os.kill(closed.tenant_nats.pid, signal.SIGCONT)
    await gateway.done()
    async with worker(mine.variables["NATS_URL"]) as reads:
        await reads.subscribe(mine.sandbox.id)
        assert (await reads.next()).headers["Nats-Msg-Id"] == waiting


async def test_sandboxes_from_before_keep_their_streams(closed: EmbeddedServers) -> None:
    conventional = settings_of(
        closed,
        sandbox_isolation="convention",
        sandbox_database_url=None,
        sandbox_redis_url=None,
        sandbox_nats_url=None,
        sandbox_credentials_key=None,
    )
    for server in (closed.postgres, closed.valkey, closed.tenant_valkey, closed.nats, closed.tenant_nats):
        await revive(server)
    async with publishing(conventional) as before:
        old = await registered(before, "old", OTHER)
        assert old.variables == {}
    async with publishing(settings_of(closed)) as bot:
        gateway = Gateway(bot, uuid4().hex)
        new = await registered(bot, "new", MINE)
        expected = [gateway.send(guild_id) for guild_id in (OTHER, MINE, OTHER)]
        await gateway.done()
        health = {name: (await bot.manager.health(name)).parts[2] for name in ("old", "new")}
        assert {name: part.facts["messages"] for name, part in health.items()} == {"old": 2, "new": 1}
        assert await count_of(bot.js, EVERY_SANDBOX) == 2
        found = await bot.stored_events.sequences(gateway.session, 0, after=0, since=time.time() - 60)
        assert len(found) == len(expected)
        await bot.manager.destroy(ALICE, "old")
        assert await names_of(bot.js, EVERY_SANDBOX) == []
        assert (await bot.manager.health("new")).parts[2].facts["messages"] == 1
        assert new.sandbox.generation == 1

    # And back again: what has an account keeps it.
    async with publishing(settings_of(closed, sandbox_isolation="convention")) as after:
        gateway = Gateway(after, uuid4().hex)
        assert after.manager.credentials(new.sandbox) == new.variables
        plain = await registered(after, "plain", OTHER)
        assert not LOGINS & plain.variables.keys()
        gateway.send(OTHER)
        gateway.send(MINE)
        await gateway.done()
        assert (await after.manager.health("new")).parts[2].facts["messages"] == 2
        assert await count_of(after.js, EVERY_SANDBOX) == 1
        await after.manager.destroy(ALICE, "plain")
        await after.manager.destroy(ALICE, "new")
        assert await names_of(after.js, EVERY_SANDBOX) == []
