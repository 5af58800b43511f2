"""A bot that may not read stored messages can't tell a duplicate: it says so, and waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from pydantic import SecretStr

from sandbox_core.errors import StreamUnusable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.streams import StreamLimits, Streams
from sandbox_core.nats.wire import Label
from tests.doctor.servers import ConfiguredNats, nats_server

from .conftest import until
from .test_publisher import Clock, Recorder

_READ = "$JS.API.STREAM.MSG.GET.EVENTS"


def _users(*denied: str) -> dict[str, Any]:
    bot = {"user": "bot", "password": "x", "permissions": {"publish": {"deny": list(denied)}}}
    return {"users": [bot, {"user": "other", "password": "x"}]}


def _event() -> Publication:
    return Publication(Label("events.TEST", {"Nats-Expected-Stream": "EVENTS"}), "session:0:1", b"{}", 1)


@asynccontextmanager
async def _connected(server: ConfiguredNats) -> AsyncIterator[NatsConnection]:
    connection = NatsConnection()
    await connection.connect(SecretStr(server.url.replace("//", "//bot:x@")), name="test", within=5)
    yield connection
    await connection.close()


async def test_without_the_right_to_read_nothing_begins(tmp_path: Path) -> None:
    async with nats_server(tmp_path, authorization=_users(_READ)) as server, _connected(server) as connection:
        streams = Streams(
            connection.client.jetstream(timeout=1), StreamLimits(), server=lambda: connection.server
        )
        with pytest.raises(StreamUnusable) as refused:
            await streams.ensure()
        assert f"its user may not publish to {_READ}" in refused.value.reason
        assert f'let the user publish to "{_READ}"' in refused.value.mend
        assert (streams.ready, streams.obstacle) == (False, refused.value)
        await server.reload(authorization=_users())
        await streams.ensure()
        assert (streams.ready, streams.obstacle) == (True, None)


async def test_a_duplicate_that_may_not_be_read_any_more_waits_until_it_may(tmp_path: Path) -> None:
    recorder = Recorder()
    async with nats_server(tmp_path, authorization=_users()) as server, _connected(server) as connection:
        js = connection.client.jetstream(timeout=1)
        streams = Streams(js, StreamLimits())
        publisher = AckPublisher(connection, streams, recorder, monotonic=Clock())
        await publisher.start()
        await until(lambda: publisher.sending)
        other = await nats.connect(server.url.replace("//", "//other:x@"))
        await other.jetstream().publish("events.TEST", b"forged", headers={"Nats-Msg-Id": "session:0:1"})
        await server.reload(authorization=_users(_READ))
        publisher.submit(_event())
        await until(lambda: streams.obstacle is not None)
        # It is not asked for again and again: the gate is shut, and says why.
        assert recorder.failures.count("not_judged") <= 2
        assert not publisher.sending
        assert publisher.outstanding == 1
        await server.reload(authorization=_users())
        async with asyncio.timeout(30):
            await publisher.drained()
        assert recorder.failures.count("id_taken") == 1
        found = [(await other.jetstream().get_msg("EVENTS", number)).data for number in (1, 2)]
        assert found == [b"forged", _event().payload]
        await publisher.close()
        await other.close()
