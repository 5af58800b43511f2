"""520,000 events of one sandbox leave another's unread ones alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandbox_bot.embedded import TenantNatsServer
from sandbox_core.addresses import NatsAddress
from sandbox_core.credentials import CredentialsKey
from sandbox_core.nats.tenant.configuration import TenantLimits
from sandbox_core.nats.tenant.keys import BOT, TenantKeys
from sandbox_core.postgres.pool import Pool
from sandbox_core.subjects import SLOT_STREAM, slot_subject

from .conftest import KEY, Bot, bot_process, raw, worker

FLOOD, BATCH, UNREAD = 520_000, 4_000, 50
# So that the number of events is what fills the stream, and not their size.
LIMITS = TenantLimits(slots=2, memory=256 * 1024 * 1024)


@pytest.fixture
async def bot(tmp_path: Path, pool: Pool) -> AsyncIterator[Bot]:
    server = TenantNatsServer(tmp_path / "data", tmp_path / "nats.log", KEY, limits=LIMITS, fast=True)
    await server.start()
    try:
        async with bot_process(pool, server.url, limits=LIMITS) as made:
            yield made
            for sandbox in made.provisioned:
                await made.namespace.drop(sandbox)
    finally:
        await server.stop()


async def test_a_flood_of_events_pushes_out_its_own_only(bot: Bot) -> None:
    flooded, other = await bot.sandbox(), await bot.sandbox()
    for number in range(UNREAD):
        await bot.send(other, f"unread {number}", f"s:0:{number}")
    subject = slot_subject(await bot.slot(flooded), f"sandbox.{flooded.id}.events.TYPING_START")
    password = TenantKeys(CredentialsKey(SecretStr(KEY))).password(BOT)
    url = NatsAddress.parse(f"nats://{bot.servers.where}").url_of(BOT, password)
    one = f"PUB {subject} 2\r\n{{}}\r\n"
    last = f"PUB {subject} _INBOX.flood 2\r\n{{}}\r\n"
    async with raw(url, "SUB _INBOX.flood 1") as (reader, writer):
        for _ in range(FLOOD // BATCH):
            writer.write((one * (BATCH - 1) + last).encode())
            # The ack of the last one: the server takes so many at once, and no more.
            async with asyncio.timeout(10):
                while not (await reader.readline()).startswith(b"MSG _INBOX.flood"):
                    pass
    facts = (await bot.namespace.check(flooded)).facts
    assert (facts["messages"], facts["messages_limit"]) == (500_000, 500_000)
    assert (await bot.namespace.check(other)).facts["messages"] == UNREAD
    async with worker(bot.url(other)) as client_of_other:
        js = client_of_other.client.jetstream(timeout=5)
        name = f"sandbox.{other.id}.events.*"
        subscription = await js.pull_subscribe(name, durable="w", stream=SLOT_STREAM)
        read = await subscription.fetch(UNREAD, timeout=5)
    assert [message.data.decode() for message in read] == [f"unread {number}" for number in range(UNREAD)]
