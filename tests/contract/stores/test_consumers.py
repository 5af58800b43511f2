"""How far a stream's consumers are behind, as a real server says it, and who is counted."""

from __future__ import annotations

import asyncio

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StorageType

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox
from sandbox_core.nats.consumers import OURS, Consumer, consumers_of
from sandbox_core.subjects import sandbox_subject
from tests.streams import stream_of

pytestmark = pytest.mark.usefixtures("sandbox_stream")


async def test_what_is_still_to_come_in_hand_and_sent_again(js: JetStreamContext, sandbox: Sandbox) -> None:
    stream, subject = stream_of(sandbox.id), sandbox_subject(sandbox.id, "MESSAGE_CREATE")
    await js.add_consumer(stream, ConsumerConfig(durable_name="slow", filter_subject=subject))
    await js.add_consumer(
        stream,
        ConsumerConfig(durable_name="other", filter_subject=sandbox_subject(sandbox.id, "TYPING_START")),
    )
    for _ in range(3):
        await js.publish(subject, b"{}")
    assert (await consumers_of(js, stream)).known == (
        Consumer("slow", True, 3, 0, 0),
        Consumer("other", True, 0, 0, 0),
    )
    reading = await js.pull_subscribe_bind(consumer="slow", stream=stream)
    (first, *_) = await reading.fetch(3)
    await first.nak()
    # Nothing else is there to come.
    (again,) = await reading.fetch(1, timeout=20)
    assert again.metadata.num_delivered == 2
    for _ in range(2):
        await js.publish(subject, b"{}")
    (slow, _) = (await consumers_of(js, stream)).known
    assert slow == Consumer("slow", True, 2, 3, 1)
    await again.ack_sync()
    (slow, _) = (await consumers_of(js, stream)).known
    # What is stored stays: five events, and the consumer has three of them behind it.
    assert (slow, (await js.stream_info(stream)).state.messages) == (Consumer("slow", True, 2, 2, 0), 5)


async def test_the_bots_own_are_nobodys_backlog(js: JetStreamContext, sandbox: Sandbox) -> None:
    stream = stream_of(sandbox.id)
    await js.add_consumer(stream, ConsumerConfig(inactive_threshold=60, metadata=dict(OURS)))
    await js.add_consumer(stream, ConsumerConfig(inactive_threshold=60, name="passing"))
    assert (await consumers_of(js, stream)).known == (Consumer("passing", False, 0, 0, 0),)


async def test_more_than_one_answer_has_are_read_and_no_more_than_some_hundreds(js: JetStreamContext) -> None:
    await js.add_stream(name="MANY", subjects=["many"], storage=StorageType.MEMORY)
    few = asyncio.Semaphore(40)

    async def another(number: int) -> None:
        async with few:
            await js.add_consumer("MANY", ConsumerConfig(durable_name=f"c{number:04}", mem_storage=True))

    await asyncio.gather(*(another(number) for number in range(300)))
    found = await consumers_of(js, "MANY")
    assert [each.name for each in found.known] == [f"c{number:04}" for number in range(300)]
    assert (found.unknown, found.unread) == ((), 0)
    await asyncio.gather(*(another(number) for number in range(300, 600)))
    found = await consumers_of(js, "MANY")
    assert (len(found.known), found.unread) == (512, 88)


async def test_a_missing_stream_is_no_stream_without_consumers(js: JetStreamContext) -> None:
    with pytest.raises(DependencyUnavailable, match="the stream NOWHERE is missing"):
        await consumers_of(js, "NOWHERE")
