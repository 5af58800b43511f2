"""The streams of sandboxes by convention, as tests make them and read them back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.every_stream import EveryStream, StreamReads
from sandbox_core.nats.message_ids import MessageIds
from sandbox_core.nats.sandbox_streams import (
    Living,
    LivingStreams,
    SandboxReads,
    SandboxStreams,
    sandbox_config,
)
from sandbox_core.nats.streams import StreamLimits, Streams, events_config
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames

EVERY_SANDBOX = DEFAULT_NAMES.sandbox
"""Stands for the streams of all sandboxes, where a test asks for a side's events."""


async def names_of(js: JetStreamContext, stream: str, names: StreamNames = DEFAULT_NAMES) -> list[str]:
    """The streams that `stream` stands for: itself, or those of all sandboxes."""
    if stream != names.sandbox:
        return [stream]
    return await SandboxStreams(js, StreamLimits(names=names)).names()


async def messages_of(js: JetStreamContext, stream: str, names: StreamNames = DEFAULT_NAMES) -> list[Any]:
    """Every message of a stream, or of all sandboxes' streams, each in its order."""
    found = []
    for name in await names_of(js, stream, names):
        state = (await js.stream_info(name)).state
        if state.messages:
            found += [await js.get_msg(name, seq) for seq in range(state.first_seq, state.last_seq + 1)]
    return found


async def count_of(js: JetStreamContext, stream: str, names: StreamNames = DEFAULT_NAMES) -> int:
    """How many messages a stream, or all sandboxes' streams, hold."""
    return sum([(await js.stream_info(name)).state.messages for name in await names_of(js, stream, names)])


def config_of(stream: str, sandbox_id: UUID | str, limits: StreamLimits | None = None) -> StreamConfig:
    """What the bot would make: production's stream, or this sandbox's in place of `SANDBOX`."""
    limits = limits or StreamLimits()
    return events_config(limits) if stream == limits.names.events else sandbox_config(limits, sandbox_id)


def living(*sandbox_ids: UUID | str) -> Living:
    """As which sandboxes live, these."""

    async def fixed() -> Collection[UUID]:
        return [UUID(str(each)) for each in sandbox_ids]

    return fixed


class StreamsOf:
    """Production's stream and those of some sandboxes, for a publisher that a test has for both."""

    def __init__(
        self,
        js: JetStreamContext,
        *sandbox_ids: UUID | str,
        limits: StreamLimits | None = None,
        server: Callable[[], str] = lambda: "",
    ) -> None:
        limits = limits or StreamLimits()
        self.production = Streams(js, limits, server=server)
        self.sandboxes = LivingStreams(SandboxStreams(js, limits, server=server), living(*sandbox_ids))

    async def ensure(self) -> None:
        """Make what is missing."""
        await self.production.ensure()
        await self.sandboxes.ensure()
        if self.sandboxes.obstacle is not None:
            raise self.sandboxes.obstacle


def reads_of(connection: NatsConnection, apart: NatsConnection | None = None) -> EveryStream:
    """Reads everything back; `apart` is to a server of the sandboxes' own."""
    names = DEFAULT_NAMES
    message_ids = MessageIds(connection.client, connection.client.jetstream(timeout=1))
    production = StreamReads(message_ids, names.events, names.events_subjects)
    client = (apart or connection).client
    js = client.jetstream(timeout=1)
    sandboxes = SandboxReads(MessageIds(client, js), SandboxStreams(js, StreamLimits()))
    return EveryStream([production], [sandboxes]) if apart else EveryStream([production, sandboxes])


def stream_of(sandbox_id: UUID | str) -> str:
    """The name of this sandbox's stream, without any setting."""
    return DEFAULT_NAMES.sandbox_stream(sandbox_id)


def streams_at(js: JetStreamContext) -> SandboxStreams:
    """All sandboxes' streams, without any setting."""
    return SandboxStreams(js, StreamLimits())
