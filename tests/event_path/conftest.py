"""The event path on real servers, with the clock and the gateway in the test's hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from sandbox_core.event_router import Activity, ShardLedger
from sandbox_core.event_router.lane import Event, Lane
from sandbox_core.events import DISPATCH, Frame
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.wire import Label
from sandbox_core.routing import PRODUCTION, sandbox_destination
from tests.streams import messages_of

GUILD_A, GUILD_B = "413625648685547541", "513625648685547541"
SANDBOX_1 = "3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d"
SANDBOX_2 = "5e8b2d10-1c2d-4e3f-8a9b-0c1d2e3f4a5b"


def dispatch(seq: int, event_type: str = "MESSAGE_CREATE", **data: Any) -> bytes:
    """A dispatch frame."""
    return json.dumps({"t": event_type, "s": seq, "op": 0, "d": data}).encode()


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


def count(activity: Activity, guild_id: str | None, sandbox_id: str | None) -> None:
    """One event of the guild is acknowledged, in the sandbox or in production."""
    frame = Frame(b"", DISPATCH, "MESSAGE_CREATE", 1, 0.0, guild_id)
    destination = PRODUCTION if sandbox_id is None else sandbox_destination(sandbox_id)
    event = Event(frame, ShardLedger("session", 0), Lane(guild_id or ""), destination=destination)
    activity.acknowledged([Publication(Label("events.X", {}), "session:0:1", b"", event)], 1.0)


@asynccontextmanager
async def connected(nats_url: str, name: str = "test") -> AsyncIterator[NatsConnection]:
    """A connection of the product's, closed at the end."""
    connection = NatsConnection()
    await connection.connect(SecretStr(nats_url), name=name, within=5)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[NatsConnection]:
    async with connected(nats_url) as connection:
        yield connection


@pytest.fixture
async def reader(nats_url: str) -> AsyncIterator[Client]:
    """A connection of the test's own, to read streams back with."""
    client = await nats.connect(nats_url, reconnect_time_wait=0.1, max_reconnect_attempts=-1)
    yield client
    await client.close()


async def read_back(client: Client, stream: str) -> list[Any]:
    """Every message of a stream, or of all sandboxes' streams, in its order."""
    return await messages_of(client.jetstream(), stream)
