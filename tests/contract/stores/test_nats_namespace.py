from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, RawStreamMsg, StorageType, StreamConfig

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable, StreamUnusable
from sandbox_core.models import Sandbox
from sandbox_core.namespaces import NatsNamespace, PartState
from sandbox_core.nats.errors import translating
from sandbox_core.nats.sandbox_streams import SandboxStreams
from sandbox_core.nats.streams import MADE_BY, MARK, StreamLimits
from sandbox_core.subjects import StreamNames, sandbox_subject
from tests.streams import stream_of, streams_at


@pytest.fixture
def namespace(js: JetStreamContext) -> NatsNamespace:
    return NatsNamespace(streams_at(js))


async def consumer(js: JetStreamContext, sandbox: Sandbox, name: str, *filters: str) -> None:
    await js.add_consumer(
        stream_of(sandbox.id), ConsumerConfig(durable_name=name, filter_subjects=list(filters))
    )


async def test_each_sandbox_has_a_stream_that_goes_with_it(
    namespace: NatsNamespace, js: JetStreamContext, new_sandbox: Callable[..., Sandbox]
) -> None:
    mine, other = new_sandbox(), new_sandbox()
    for sandbox in (mine, other):
        await namespace.provision(sandbox)
        await namespace.provision(sandbox)
        await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
        await consumer(js, sandbox, "worker", sandbox_subject(sandbox.id, "MESSAGE_CREATE"))
    config = (await js.stream_info(stream_of(mine.id))).config
    assert (config.subjects, config.storage) == ([f"sandbox.{mine.id}.events.>"], "memory")
    assert (config.max_age, config.max_msgs) == (300, 500_000)
    assert (config.max_bytes, config.max_consumers) == (32 * 1024 * 1024, 50)
    assert (config.metadata or {}).items() >= {MADE_BY: MARK, "sandbox": str(mine.id)}.items()
    assert await namespace.list_ids() == {str(mine.id), str(other.id)}

    await namespace.drop(mine)
    await namespace.drop(mine)

    assert await namespace.list_ids() == {str(other.id)}
    (left,) = await js.streams_info()
    assert (left.config.name, left.state.messages, left.state.consumer_count) == (stream_of(other.id), 1, 1)


async def test_the_limits_are_the_settings(js: JetStreamContext, sandbox: Sandbox) -> None:
    limits = StreamLimits(sandbox_bytes=16 * 1024 * 1024, sandbox_messages=1000, sandbox_consumers=1)
    await NatsNamespace(SandboxStreams(js, limits)).provision(sandbox)
    config = (await js.stream_info(stream_of(sandbox.id))).config
    assert (config.max_bytes, config.max_msgs, config.max_consumers) == (16 * 1024 * 1024, 1000, 1)


async def test_more_streams_than_one_answer_names(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox
) -> None:
    """The server names 1,024 streams at a time."""
    await namespace.provision(sandbox)
    few = asyncio.Semaphore(40)

    async def another(number: int) -> None:
        async with few:
            await js.add_stream(name=f"A{number:04}", subjects=[f"a.{number}"], storage=StorageType.MEMORY)

    await asyncio.gather(*(another(number) for number in range(1030)))
    assert await namespace.list_ids() == {str(sandbox.id)}


async def test_health(namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox) -> None:
    await namespace.provision(sandbox)
    quiet = await namespace.check(sandbox)
    assert (quiet.store, quiet.state, quiet.detail) == ("NATS", PartState.HEALTHY, "no events stored")
    for kind in ("MESSAGE_CREATE", "MESSAGE_CREATE", "TYPING_START"):
        await js.publish(sandbox_subject(sandbox.id, kind), b"{}")
    await consumer(js, sandbox, "mine", sandbox_subject(sandbox.id, "TYPING_START"))
    later = NatsNamespace(streams_at(js), clock=lambda: datetime.now(UTC) + timedelta(seconds=90))
    busy = await later.check(sandbox)
    assert busy.state is PartState.HEALTHY
    assert (busy.facts["messages"], busy.facts["messages_limit"]) == (3, 500_000)
    assert (busy.facts["consumers"], busy.facts["consumers_limit"]) == (1, 50)
    assert 0 < int(busy.facts["bytes"]) < int(busy.facts["bytes_limit"]) == 32 * 1024 * 1024
    assert 90 <= float(busy.facts["last_event_age_s"]) < 120
    assert busy.detail.startswith("3 events stored, the last one ")
    assert busy.latency_ms > 0
    behind = NatsNamespace(streams_at(js), clock=lambda: datetime.now(UTC) - timedelta(hours=1))
    assert (await behind.check(sandbox)).facts["last_event_age_s"] == 0


async def test_an_event_without_a_time(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def timeless(*_: object) -> RawStreamMsg:
        return RawStreamMsg()

    await namespace.provision(sandbox)
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
    monkeypatch.setattr(js, "get_last_msg", timeless)
    assert "last_event_age_s" not in (await namespace.check(sandbox)).facts


async def test_a_missing_stream_is_an_empty_one(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox
) -> None:
    await namespace.provision(sandbox)
    await js.delete_stream(stream_of(sandbox.id))
    assert await namespace.list_ids() == set()
    part = await namespace.check(sandbox)
    assert part.state is PartState.DEGRADED
    assert part.facts["messages"] == 0
    assert "will be created again" in part.detail
    await namespace.drop(sandbox)


async def test_a_stream_of_somebody_else_is_left_alone(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox
) -> None:
    await js.add_stream(StreamConfig(name=stream_of(sandbox.id), subjects=["sandbox.>"]))
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"theirs")
    with pytest.raises(StreamUnusable, match="not this bot's"):
        await namespace.provision(sandbox)
    await namespace.drop(sandbox)
    assert await namespace.list_ids() == set()
    health = await namespace.check(sandbox)
    assert health.state is PartState.UNHEALTHY
    assert "not this bot's" in health.detail
    assert (await js.stream_info(stream_of(sandbox.id))).state.messages == 1


async def test_a_stream_that_has_the_subjects_stays(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox
) -> None:
    await js.add_stream(StreamConfig(name="BILLING", subjects=["sandbox.>"]))
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
    with pytest.raises(StreamUnusable, match=r"BILLING \(subjects sandbox\.>\) takes subjects"):
        await namespace.provision(sandbox)
    assert (await js.stream_info("BILLING")).state.messages == 1


async def test_the_streams_may_have_other_names(js: JetStreamContext, sandbox: Sandbox) -> None:
    await js.add_stream(StreamConfig(name=stream_of(sandbox.id), subjects=["billing.>"]))
    namespace = NatsNamespace(SandboxStreams(js, StreamLimits(names=StreamNames(sandbox="ACME_SANDBOX"))))
    await namespace.provision(sandbox)
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
    assert await namespace.list_ids() == {str(sandbox.id)}
    assert (await namespace.check(sandbox)).facts["messages"] == 1
    await namespace.drop(sandbox)
    assert [info.config.name for info in await js.streams_info()] == [stream_of(sandbox.id)]


async def test_nats_away(
    servers: EmbeddedServers, nats_client: Client, namespace: NatsNamespace, sandbox: Sandbox
) -> None:
    await namespace.provision(sandbox)
    await servers.nats.kill()
    for act in (
        namespace.provision(sandbox),
        namespace.drop(sandbox),
        namespace.check(sandbox),
        namespace.list_ids(),
    ):
        with pytest.raises(DependencyUnavailable) as away:
            await act
        assert away.value.dependency == "NATS"
    await servers.nats.start()
    while not nats_client.is_connected:
        await asyncio.sleep(0.01)
    await namespace.provision(sandbox)


_SILENT = "JetStream does not answer: it is off, or its cluster has no leader"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (nats.js.errors.NoStreamResponseError(), _SILENT),
        (nats.js.errors.ServiceUnavailableError(), _SILENT),
        (nats.js.errors.ServerError(), "JetStream reports a fault"),
        (nats.errors.NoRespondersError(), _SILENT),
        (nats.errors.AuthorizationError(), "it refused the login"),
        (nats.errors.TimeoutError(), "no answer in time"),
        (TimeoutError(), "no answer in time"),
        (nats.errors.NoServersError(), "no server accepts connections"),
        (nats.errors.ConnectionClosedError(), "the connection is closed"),
        (nats.errors.StaleConnectionError(), "the connection was lost"),
        (ConnectionResetError(), "the connection was lost"),
    ],
)
def test_errors_that_mean_it_is_away(error: Exception, reason: str) -> None:
    with pytest.raises(DependencyUnavailable) as away, translating():
        raise error
    assert (away.value.dependency, away.value.problem) == ("NATS", reason)


@pytest.mark.parametrize("error", [nats.js.errors.NotFoundError(), nats.js.errors.BadRequestError()])
def test_answers_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, translating():
        raise error
    assert raised.value is error
