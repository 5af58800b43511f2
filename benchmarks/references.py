"""Other designs, and parts of this one, to compare with."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import discord
import discord.gateway
import nats
import yarl
from nats.js.api import ConsumerConfig, StreamConfig
from redis.asyncio import Redis

from .sink import Sink
from .task import Counter, Task, identify


@asynccontextmanager
async def _client(task: Task, make: Callable[[], Any]) -> AsyncIterator[Any]:
    """A discord.py client on the simulator, ready."""

    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
    discord.http.Route.BASE = task.api_url
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(task.gateway_url)
    client = make()
    running = asyncio.create_task(client.start(task.token))
    ready = asyncio.create_task(_wait_ready(client))
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        await running
    try:
        yield client
    finally:
        await client.close()
        await asyncio.gather(running, ready, return_exceptions=True)


async def _wait_ready(client: Any) -> None:
    # `wait_until_ready` raises until the login is done.
    while not client.is_ready():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _intents() -> Any:

    intents = discord.Intents.default()
    intents.message_content = True
    return intents


@asynccontextmanager
async def bare_discord_py(task: Task) -> AsyncIterator[Counter]:
    """Receives and parses as discord.py does, and does nothing else."""

    handled = 0

    class Bare(discord.Client):
        async def on_message(self, _message: discord.Message) -> None:
            nonlocal handled
            handled += 1

    async with _client(task, lambda: Bare(intents=_intents())):
        yield lambda: handled


@asynccontextmanager
async def _stores(task: Task) -> AsyncIterator[tuple[Any, Any]]:
    """Redis and JetStream, as one would open them."""

    redis = Redis.from_url(task.redis_url)
    client = await nats.connect(task.nats_url)
    try:
        yield redis, client.jetstream()
    finally:
        await client.close()
        await redis.aclose()


def _read(text: str) -> tuple[str, str]:
    """Event name and guild of a frame; two empty strings when it is no MESSAGE_CREATE."""
    frame = json.loads(text)
    if frame["t"] != "MESSAGE_CREATE":
        return "", ""
    return frame["t"], frame["d"]["guild_id"]


_AT_ONCE = 64
"""Frames of the obvious designs in the stores at once: their tasks have no other bound, and time out."""


def _listening(on_frame: Callable[[str], Any]) -> Any:
    """A client that hands every frame's text on."""

    class Listening(discord.Client):
        async def on_socket_raw_receive(self, text: str) -> None:
            await on_frame(text)

    return Listening(intents=_intents(), enable_debug_events=True)


@asynccontextmanager
async def obvious_listener(task: Task) -> AsyncIterator[Counter]:
    """`on_socket_raw_receive`, `json.loads`, one Redis GET, one awaited publish."""
    done = 0
    turns = asyncio.Semaphore(_AT_ONCE)
    async with _stores(task) as (redis, js):

        async def on_frame(text: str) -> None:
            nonlocal done
            name, guild_id = _read(text)
            if not name:
                return
            async with turns:
                sandbox = await redis.get(f"bench:route:{guild_id}")
                subject = f"sandbox.{sandbox.decode()}.events.{name}" if sandbox else f"events.{name}"
                await js.publish(subject, text.encode(), timeout=60)
            done += 1

        await redis.mset({f"bench:route:{guild}": sandbox for guild, sandbox in task.mapped.items()})
        async with _client(task, lambda: _listening(on_frame)):
            yield lambda: done


@asynccontextmanager
async def two_hops(task: Task) -> AsyncIterator[Counter]:
    """Everything into one stream; a durable consumer's callback asks Redis and publishes a second time.

    nats-py runs a callback for one message after the other.
    """

    @asynccontextmanager
    async def callback(js: Any, forward: Forward) -> AsyncIterator[None]:
        config = ConsumerConfig(ack_wait=60)
        subscription = await js.subscribe(
            "hop.>", durable="router", cb=forward, manual_ack=True, config=config
        )
        yield
        await subscription.unsubscribe()

    async with _hops(task, callback) as done:
        yield done


@asynccontextmanager
async def concurrent_hops(task: Task) -> AsyncIterator[Counter]:
    """The same at its best: the consumer fetches many messages and forwards them at once."""

    @asynccontextmanager
    async def fetching(js: Any, forward: Forward) -> AsyncIterator[None]:
        async def fetch() -> None:
            consumer = await js.pull_subscribe("hop.>", durable="router", config=ConsumerConfig(ack_wait=60))
            while True:
                try:
                    messages = await consumer.fetch(_AT_ONCE, timeout=1)
                except TimeoutError:
                    continue
                await asyncio.gather(*(forward(message) for message in messages))

        forwarding = asyncio.create_task(fetch())
        yield
        forwarding.cancel()
        await asyncio.gather(forwarding, return_exceptions=True)

    async with _hops(task, fetching) as done:
        yield done


Forward = Callable[[Any], Awaitable[None]]


@asynccontextmanager
async def _hops(
    task: Task, consume: Callable[[Any, Forward], AbstractAsyncContextManager[None]]
) -> AsyncIterator[Counter]:
    done = 0
    turns = asyncio.Semaphore(_AT_ONCE)
    async with _stores(task) as (redis, js):
        await js.add_stream(StreamConfig(name="HOP", subjects=["hop.>"]))

        async def on_frame(text: str) -> None:
            name, _ = _read(text)
            if name:
                async with turns:
                    await js.publish(f"hop.{name}", text.encode(), timeout=60)

        async def forward(message: Any) -> None:
            nonlocal done
            name, guild_id = _read(message.data.decode())
            sandbox = await redis.get(f"bench:route:{guild_id}")
            subject = f"sandbox.{sandbox.decode()}.events.{name}" if sandbox else f"events.{name}"
            await js.publish(subject, message.data, timeout=60)
            await message.ack()
            done += 1

        await redis.mset({f"bench:route:{guild}": sandbox for guild, sandbox in task.mapped.items()})
        try:
            async with consume(js, forward), _client(task, lambda: _listening(on_frame)):
                yield lambda: done
        finally:
            await js.delete_stream("HOP")


@asynccontextmanager
async def publish_ceiling(task: Task) -> AsyncIterator[Counter]:
    """`nats-py`'s `publish_async` of prepared messages with message ids: no socket, no decision."""
    done = 0
    async with _stores(task) as (_, js):
        sandbox = next(iter(task.mapped.values()))
        subjects = ("events.MESSAGE_CREATE", f"sandbox.{sandbox}.events.MESSAGE_CREATE")
        payload = b"x" * task.payload_bytes
        session = os.urandom(16).hex()

        def acknowledged(future: asyncio.Future[Any]) -> None:
            nonlocal done
            future.result()
            done += 1

        async def publish() -> None:
            for number in range(task.warm_up + task.events):
                headers = {"Nats-Msg-Id": f"{session}:0:{number}"}
                future = await js.publish_async(subjects[number % 2], payload, headers=headers)
                future.add_done_callback(acknowledged)

        publishing = asyncio.create_task(publish())
        try:
            yield lambda: done
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)


@asynccontextmanager
async def reading_only(task: Task) -> AsyncIterator[Counter]:
    """Counts WebSocket messages and looks at nothing: how fast the simulator can send."""

    sink = Sink()
    async with sink.connected(task.gateway_url, task.token):
        # What a new session is told comes in one go: READY and a GUILD_CREATE per guild.
        before = await sink.quiet()
        yield lambda: sink.messages - before


@asynccontextmanager
async def inflating_only(task: Task) -> AsyncIterator[Counter]:
    """aiohttp's WebSocket and zlib, and nothing after that."""

    received = 0
    inflater = zlib.decompressobj()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        url = f"{task.gateway_url}?v=10&encoding=json&compress=zlib-stream"
        socket = await stack.enter_async_context(http.ws_connect(url, max_msg_size=0, compress=0))
        await socket.send_json(identify(task.token))

        async def receive() -> None:
            nonlocal received
            while True:
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return
                if b'"MESSAGE_CREATE"' in inflater.decompress(message.data)[:40]:
                    received += 1

        receiving = asyncio.create_task(receive())
        yield lambda: received
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
