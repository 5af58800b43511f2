"""A sandbox uses what it may, and its neighbour and the bot do not notice."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from sandbox_bot.embedded import TenantNatsServer
from sandbox_core.models import Sandbox
from sandbox_core.postgres.pool import Pool
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM

from .conftest import LIMITS, MIB, Bot, bot_process, eventually, raw, refused, worker

UNREAD = 50


@pytest.fixture
async def other(bot: Bot) -> Sandbox:
    """The neighbour, with unread events."""
    made = await bot.sandbox()
    for number in range(UNREAD):
        await bot.send(made, "unread", f"s:0:{number}")
    return made


async def is_well(bot: Bot, other: Sandbox) -> None:
    """The neighbour has its events, can log in and read, and gets another one."""
    assert (await bot.namespace.check(other)).facts["messages"] == UNREAD
    async with worker(bot.url(other)) as client:
        js = client.client.jetstream(timeout=5)
        subscription = await js.pull_subscribe(
            f"sandbox.{other.id}.events.*", durable="w", stream=SLOT_STREAM
        )
        assert len(await subscription.fetch(UNREAD, timeout=5)) == UNREAD
    assert (await bot.send(other, "one more")).seq == UNREAD + 1


async def test_more_events_than_fit_push_out_its_own_oldest_only(
    bot: Bot, sandbox: Sandbox, other: Sandbox
) -> None:
    payload = "x" * (MIB // 4)
    for number in range(2 * LIMITS.memory // len(payload)):
        # No event is refused: the oldest goes.
        assert (await bot.send(sandbox, payload, f"f:0:{number}")).seq == number + 1
    facts = (await bot.namespace.check(sandbox)).facts
    assert facts["bytes"] <= facts["bytes_limit"]
    assert 0 < facts["messages"] < LIMITS.memory // len(payload)
    await is_well(bot, other)


async def test_more_events_than_it_may_have_push_out_its_own_oldest_only(
    bot: Bot, other: Sandbox, pool: Pool, server: TenantNatsServer
) -> None:
    async with bot_process(pool, server.url, limits=replace(LIMITS, messages=100)) as smaller:
        made = await smaller.sandbox()
        for number in range(150):
            assert (await smaller.send(made, "x", f"f:0:{number}")).seq == number + 1
        facts = (await smaller.namespace.check(made)).facts
        assert (facts["messages"], facts["messages_limit"]) == (100, 100)
        await is_well(bot, other)
        await smaller.namespace.drop(made)


async def test_a_worker_that_writes_without_end_pushes_out_its_own_letters_only(
    bot: Bot, sandbox: Sandbox, other: Sandbox
) -> None:
    await bot.send(sandbox, "an event")
    async with worker(bot.url(sandbox)) as client:
        subject = f"sandbox.{sandbox.id}.events.dead_letter.X"
        for _ in range(40):
            await client.client.publish(subject, b"x" * (MIB // 4))
        await client.client.flush(timeout=30)
    found = await bot.streams.infos(await bot.slot(sandbox))
    assert found[SLOT_STREAM].state.messages == 1
    assert found[SLOT_DEAD_LETTERS].state.bytes <= LIMITS.memory // 8
    assert (await bot.send(sandbox, "another event")).seq == 2
    await is_well(bot, other)


async def test_connections_are_counted_for_each_sandbox(bot: Bot, sandbox: Sandbox, other: Sandbox) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(LIMITS.connections):
            await stack.enter_async_context(worker(bot.url(sandbox)))
        assert await refused(bot.url(sandbox))
        await is_well(bot, other)
    assert not await refused(bot.url(sandbox))


async def test_subscriptions_are_counted_for_each_sandbox(bot: Bot, sandbox: Sandbox, other: Sandbox) -> None:
    lines = [f"SUB _INBOX.{number} {number}" for number in range(LIMITS.subscriptions + 1)]
    async with raw(bot.url(sandbox), *lines) as (reader, _), asyncio.timeout(10):
        assert b"maximum subscriptions exceeded" in (await reader.readuntil(b"exceeded")).lower()
        await is_well(bot, other)


async def test_consumers_are_counted_for_each_sandbox(bot: Bot, sandbox: Sandbox, other: Sandbox) -> None:
    async with worker(bot.url(sandbox)) as client:
        answers = []
        for number in range(LIMITS.consumers + 1):
            every = f"sandbox.{sandbox.id}.events.*"
            config = {"durable_name": f"c{number}", "ack_policy": "none", "filter_subject": every}
            request = json.dumps({"stream_name": SLOT_STREAM, "config": config}).encode()
            subject = f"$JS.API.CONSUMER.CREATE.{SLOT_STREAM}.c{number}.{every}"
            answers.append(json.loads((await client.client.request(subject, request, timeout=5)).data))
        assert ["error" in each for each in answers] == [False] * LIMITS.consumers + [True]
        assert answers[-1]["error"]["err_code"] == 10026
    await is_well(bot, other)


async def test_a_list_of_filters_keeps_no_neighbour_waiting(
    bot: Bot, sandbox: Sandbox, other: Sandbox
) -> None:
    """Compared with each other, so many took the server hours, and JetStream answered nobody meanwhile."""
    config = {"durable_name": "f", "ack_policy": "none", "filter_subjects": [f"f{n}" for n in range(40_000)]}
    request = json.dumps({"stream_name": SLOT_STREAM, "config": config}).encode()
    asked = f"$JS.API.CONSUMER.CREATE.{SLOT_STREAM}.f"
    async with worker(bot.url(sandbox)) as client:
        for subject in (
            asked,
            f"{asked}.sandbox.{sandbox.id}.events.*",
            asked.replace("CREATE", "DURABLE.CREATE"),
        ):
            for _ in range(20):
                await client.client.publish(subject, request, reply="_INBOX.x")
        await client.client.flush(timeout=10)
        async with asyncio.timeout(3):
            await is_well(bot, other)
            made = await bot.sandbox()
        await bot.namespace.drop(made)
    assert (await bot.streams.infos(await bot.slot(sandbox)))[SLOT_STREAM].state.consumer_count == 0


async def test_a_message_that_is_too_large_ends_its_own_connection(
    bot: Bot, sandbox: Sandbox, other: Sandbox
) -> None:
    line = f"PUB sandbox.{sandbox.id}.x {LIMITS.max_payload + 1}"
    async with worker(bot.url(other)) as neighbour:
        async with raw(bot.url(sandbox), line) as (reader, _), asyncio.timeout(10):
            assert b"Maximum Payload Violation" in await reader.read()
        assert neighbour.client.is_connected
    await is_well(bot, other)


async def test_a_worker_that_does_not_read_is_cut_off(
    bot: Bot, sandbox: Sandbox, other: Sandbox, server: TenantNatsServer
) -> None:
    slot = await bot.slot(sandbox)

    async def is_cut() -> bool:
        await bot.send(sandbox, "x" * (MIB - 4096))
        return not await bot.servers.connections(slot)

    async def is_there() -> bool:
        return bool(await bot.servers.connections(slot))

    async with raw(bot.url(sandbox), f"SUB sandbox.{sandbox.id}.> 1"):
        await eventually(is_there)
        await eventually(is_cut, within=30)
    assert "Slow Consumer" in server._log.read_text()
    await is_well(bot, other)


async def test_clients_that_never_log_in_hinder_nobody(bot: Bot, sandbox: Sandbox, other: Sandbox) -> None:
    """The server ends them after its limit for a login."""
    url = urlsplit(bot.url(sandbox))
    opened = [await asyncio.open_connection(url.hostname, url.port) for _ in range(200)]
    await is_well(bot, other)
    async with asyncio.timeout(30):
        for reader, writer in opened:
            assert b"Authentication Timeout" in await reader.read()
            writer.close()
