"""A sandbox on the sandboxes' NATS server: its worker is let in, gets events, and is cut off at the end."""

from __future__ import annotations

import asyncio
import time

from sandbox_core.models import Sandbox

from .conftest import Bot, refused, worker

CUT_WITHIN = 1.0


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

        began = time.monotonic()
        await bot.namespace.drop(sandbox)
        async with asyncio.timeout(10):
            await client.disconnected.wait()
        assert time.monotonic() - began < CUT_WITHIN
    assert await refused(url)
    assert await bot.namespace.slot_of(sandbox.id) is None
    assert await bot.namespace.list_ids() == set()


async def test_a_repeated_message_id_is_told(bot: Bot, sandbox: Sandbox) -> None:
    assert (await bot.send(sandbox, "one", "s:0:1")).duplicate is None
    again = await bot.send(sandbox, "two", "s:0:1")
    assert (again.duplicate, again.seq) == (True, 1)
