"""Reads a stream completely, while it grows: also through outages, and when it is made anew."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo
from nats.js.errors import NotFoundError

from sandbox_core.errors import SandboxError
from sandbox_core.nats.lasting import LastingClient
from sandbox_core.tasks import end
from tests.streams import EVERY_SANDBOX, names_of

_BATCH = 1000
_PAUSE = 0.2
_ANSWER_WITHIN = 2.0
_CLOSES_WITHIN = 5.0
_READ_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of a stream. `life` counts how often the stream had been made when it was stored.

    `stream` is the reader's name of it: streams of several accounts have the same name there.
    """

    stream: str
    life: int
    number: int
    subject: str
    headers: dict[str, str]
    payload: bytes
    at: float
    """When the server stored it, in seconds since the epoch."""

    @property
    def identity(self) -> str:
        """Its `Nats-Msg-Id`, or "" when it has none."""
        return self.headers.get("Nats-Msg-Id", "")


class StreamReader:
    """Every message that one stream has held since the reader began."""

    def __init__(self, client: Client, stream: str, name: str = "", *, may_go: bool = False) -> None:
        """`name` is what it is called here, where it is not the stream's own.

        `may_go` is for a stream that is removed with its sandbox.
        """
        self._may_go = may_go
        self._client = client
        self._name = name or stream
        self._js: JetStreamContext = client.jetstream(timeout=_ANSWER_WITHIN)
        self._stream = stream
        self._created: datetime | None = None
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._last = 0
        self._reading = asyncio.Lock()
        self.life = 0
        self.stopped = False
        """Set when `follow` is to end: a cancellation alone can get lost inside a fetch that just ends."""
        self.ended: dict[tuple[str, int], float] = {}
        """When the stream was made anew, by its name and the life that was over."""
        self.messages: list[Stored] = []
        self.missed = 0
        """Messages that were gone before they could be read."""

    async def follow(self) -> None:
        """Read along until cancelled; an outage is waited out."""
        while not self.stopped:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self.catch_up()
            await asyncio.sleep(_PAUSE)

    async def catch_up(self) -> bool:
        """Read what the stream holds and is not read yet; False when some of it did not come.

        Raises nats-py's errors.
        """
        # Who follows and who reads to the end share a consumer: each would skip what the other was given.
        async with self._reading:
            try:
                return await self._catch_up()
            except (nats.errors.Error, OSError) as error:
                await self._forget_consumer()
                if self._may_go and isinstance(error, NotFoundError):
                    return True
                raise

    async def _catch_up(self) -> bool:
        info = await self._js.stream_info(self._stream)
        if info.created != self._created:
            if self.life and info.created is not None:
                self.ended[self._name, self.life] = info.created.timestamp()
            await self._forget_consumer()
            self._created, self._last = info.created, 0
            self.life += 1
        while self._last < info.state.last_seq:
            if not await self._read(info):
                return False
        return True

    async def _forget_consumer(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _read(self, info: StreamInfo) -> int:
        if self._subscription is None:
            (subjects,) = info.config.subjects or []
            consumer = await self._js.add_consumer(
                self._stream,
                ConsumerConfig(
                    # A sandbox's login may make consumers with a name and one filter.
                    name=f"reader-{secrets.token_hex(8)}",
                    filter_subject=subjects,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=self._last + 1,
                    ack_policy=AckPolicy.NONE,
                    inactive_threshold=60,
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            self._subscription = await self._js.pull_subscribe_bind(consumer.name, self._stream)
        try:
            batch = await self._subscription.fetch(
                min(_BATCH, info.state.last_seq - self._last), timeout=_ANSWER_WITHIN
            )
        except nats.errors.TimeoutError:
            # Removed before it could be read; a memory stream's consumer may also have gone with it.
            await self._note_removed(info)
            await self._forget_consumer()
            return 0
        for message in batch:
            data = message.metadata
            if data.sequence.stream <= self._last:
                # A consumer that moved to another node repeats what it had delivered.
                continue
            self.missed += data.sequence.stream - self._last - 1
            self._last = data.sequence.stream
            headers = dict(message.headers or {})
            payload = message.data
            if headers.get("Content-Encoding") == "gzip":
                payload = gzip.decompress(payload)
            at = data.timestamp.timestamp()
            self.messages.append(
                Stored(self._name, self.life, self._last, message.subject, headers, payload, at)
            )
        return len(batch)

    async def _note_removed(self, info: StreamInfo) -> None:
        if self._subscription is None:
            return
        # What stands before the last message read may well be there still.
        left = (await self._subscription.consumer_info()).num_pending
        now = await self._js.stream_info(self._stream)
        if now.created == self._created and left == 0:
            self.missed += info.state.last_seq - self._last
            self._last = info.state.last_seq


async def read_to_the_end(reader: StreamReader) -> None:
    """Read what is left; a cluster that has just lost a node may not answer at once."""
    deadline = time.monotonic() + _READ_WITHIN
    while not reader.stopped:
        try:
            if await reader.catch_up():
                return
        except (nats.errors.Error, OSError):
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise TimeoutError("a stream could not be read to its end")
        await asyncio.sleep(0.5)


@asynccontextmanager
async def reading(
    servers: Sequence[str], streams: Mapping[str, str]
) -> AsyncIterator[dict[str, StreamReader]]:
    """Readers of these streams, by their names here, that follow until the body is left."""
    async with _connected(servers) as client:
        readers = {name: StreamReader(client, stream, name) for name, stream in streams.items()}
        tasks = [asyncio.create_task(reader.follow()) for reader in readers.values()]
        try:
            yield readers
        finally:
            await _end(readers.values(), tasks)


@asynccontextmanager
async def reading_sandboxes(servers: Sequence[str], readers: dict[str, StreamReader]) -> AsyncIterator[None]:
    """Add a reader to `readers` for the stream of each sandbox, as soon as it is there."""
    async with _connected(servers) as client:
        own: list[StreamReader] = []
        tasks: list[asyncio.Task[None]] = []

        async def look() -> None:
            js = client.jetstream(timeout=_ANSWER_WITHIN)
            while True:
                with contextlib.suppress(SandboxError, nats.errors.Error, OSError):
                    for name in await names_of(js, EVERY_SANDBOX):
                        if name not in readers:
                            readers[name] = StreamReader(client, name, may_go=True)
                            own.append(readers[name])
                            tasks.append(asyncio.create_task(readers[name].follow()))
                await asyncio.sleep(_PAUSE)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            await end(looking)
            await _end(own, tasks)


async def _end(readers: Iterable[StreamReader], tasks: Sequence[asyncio.Task[None]]) -> None:
    for reader in readers:
        reader.stopped = True
    for task in tasks:
        task.cancel()
    for failure in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(failure, Exception):
            raise failure


@asynccontextmanager
async def _connected(servers: Sequence[str]) -> AsyncIterator[LastingClient]:
    async def silent(_error: Exception) -> None:
        """The servers are killed on purpose."""

    client = LastingClient()
    await client.connect(
        list(servers),
        error_cb=silent,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,
        connect_timeout=2,
    )
    try:
        yield client
    finally:
        with contextlib.suppress(TimeoutError):
            # Nothing is left to be written, so nothing is lost when a half-open connection does not end.
            async with asyncio.timeout(_CLOSES_WITHIN):
                client.leave()
                await client.close()
