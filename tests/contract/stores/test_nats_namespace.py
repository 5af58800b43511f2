from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, RawStreamMsg, StreamConfig

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable, StreamUnusable
from sandbox_core.models import Sandbox
from sandbox_core.namespaces import NatsNamespace, PartState
from sandbox_core.nats.errors import translating
from sandbox_core.nats.streams import StreamLimits, stream_configs
from sandbox_core.subjects import SANDBOX_STREAM, StreamNames, nats_prefix, sandbox_filter, sandbox_subject


@pytest.fixture
def namespace(js: JetStreamContext) -> NatsNamespace:
    return NatsNamespace(js)


async def consumer(js: JetStreamContext, name: str, *filters: str) -> None:
    await js.add_consumer(SANDBOX_STREAM, ConsumerConfig(durable_name=name, filter_subjects=list(filters)))


async def consumers(js: JetStreamContext) -> list[str]:
    return sorted(info.name for info in await js.consumers_info(SANDBOX_STREAM))


@pytest.mark.usefixtures("sandbox_stream")
async def test_only_what_is_the_sandboxs_alone_goes(
    namespace: NatsNamespace, js: JetStreamContext, new_sandbox: Callable[..., Sandbox]
) -> None:
    mine, other = new_sandbox(), new_sandbox()
    await namespace.provision(mine)
    for sandbox in (mine, other):
        await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
        await js.publish(nats_prefix(sandbox.id) + "jobs.resize", b"x")
    await consumer(js, "mine", sandbox_filter(mine.id))
    await consumer(
        js, "mine-two", sandbox_subject(mine.id, "MESSAGE_CREATE"), sandbox_subject(mine.id, "TYPING_START")
    )
    await consumer(js, "both", sandbox_filter(mine.id), sandbox_filter(other.id))
    await consumer(js, "other", sandbox_filter(other.id))
    await js.add_consumer(SANDBOX_STREAM, ConsumerConfig(durable_name="everything"))
    assert await namespace.list_ids() == {str(mine.id), str(other.id)}

    await namespace.drop(mine)
    await namespace.drop(mine)

    assert await consumers(js) == ["both", "everything", "other"]
    info = await js.stream_info(SANDBOX_STREAM, subjects_filter=">")
    assert info.state.subjects == {
        sandbox_subject(other.id, "MESSAGE_CREATE"): 1,
        nats_prefix(other.id) + "jobs.resize": 1,
    }


@pytest.mark.usefixtures("sandbox_stream")
async def test_a_consumer_alone_is_found(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox
) -> None:
    await js.publish("sandbox.not-a-uuid.events.X", b"")
    assert await namespace.list_ids() == set()
    await consumer(js, "lonely", sandbox_filter(sandbox.id))
    assert await namespace.list_ids() == {str(sandbox.id)}


@pytest.mark.usefixtures("sandbox_stream")
async def test_more_consumers_than_one_answer_holds(
    namespace: NatsNamespace, js: JetStreamContext, new_sandbox: Callable[..., Sandbox]
) -> None:
    """The server lists 256 consumers at a time."""
    mine, other = new_sandbox(), new_sandbox()
    for start in range(0, 280, 40):
        await asyncio.gather(
            *(
                consumer(js, f"c{number:03}", sandbox_filter(mine.id if number % 2 else other.id))
                for number in range(start, start + 40)
            )
        )
    await namespace.drop(mine)
    left = await consumers(js)
    assert len(left) == 140
    assert (await namespace.check(other)).facts["consumers"] == 140


@pytest.mark.usefixtures("sandbox_stream")
async def test_health(namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox) -> None:
    quiet = await namespace.check(sandbox)
    assert (quiet.store, quiet.state, quiet.detail) == ("NATS", PartState.HEALTHY, "no events waiting")
    for kind in ("MESSAGE_CREATE", "MESSAGE_CREATE", "TYPING_START"):
        await js.publish(sandbox_subject(sandbox.id, kind), b"{}")
    await consumer(js, "mine", sandbox_filter(sandbox.id))
    later = NatsNamespace(js, clock=lambda: datetime.now(UTC) + timedelta(seconds=90))
    busy = await later.check(sandbox)
    assert busy.state is PartState.HEALTHY
    assert (busy.facts["messages"], busy.facts["consumers"]) == (3, 1)
    assert 90 <= float(busy.facts["last_event_age_s"]) < 120
    assert busy.detail.startswith("3 events waiting, the last one ")
    assert busy.latency_ms > 0
    behind = NatsNamespace(js, clock=lambda: datetime.now(UTC) - timedelta(hours=1))
    assert (await behind.check(sandbox)).facts["last_event_age_s"] == 0


@pytest.mark.usefixtures("sandbox_stream")
async def test_an_event_without_a_time(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def timeless(*_: object) -> RawStreamMsg:
        return RawStreamMsg()

    monkeypatch.setattr(js, "get_last_msg", timeless)
    assert "last_event_age_s" not in (await namespace.check(sandbox)).facts


async def test_a_missing_stream_is_an_empty_one(namespace: NatsNamespace, sandbox: Sandbox) -> None:
    await namespace.provision(sandbox)
    await namespace.drop(sandbox)
    assert await namespace.list_ids() == set()
    part = await namespace.check(sandbox)
    assert part.state is PartState.DEGRADED
    assert part.facts["messages"] == 0
    assert "will be created again" in part.detail


@pytest.mark.usefixtures("sandbox_stream")
async def test_a_consumer_that_left_by_itself(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await consumer(js, "mine", sandbox_filter(sandbox.id))
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
    real = js.delete_consumer

    async def twice(stream: str, name: str) -> bool:
        await real(stream, name)
        return await real(stream, name)

    monkeypatch.setattr(js, "delete_consumer", twice)
    await namespace.drop(sandbox)
    assert await namespace.list_ids() == set()


async def test_a_stream_of_somebody_else_is_left_alone(
    namespace: NatsNamespace, js: JetStreamContext, sandbox: Sandbox
) -> None:
    await js.add_stream(StreamConfig(name=SANDBOX_STREAM, subjects=["sandbox.>"]))
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"theirs")
    await consumer(js, "theirs", sandbox_filter(sandbox.id))
    with pytest.raises(StreamUnusable, match="not this bot's"):
        await namespace.provision(sandbox)
    await namespace.drop(sandbox)
    assert await namespace.list_ids() == set()
    health = await namespace.check(sandbox)
    assert health.state is PartState.UNHEALTHY
    assert "not this bot's" in health.detail
    assert await consumers(js) == ["theirs"]
    assert (await js.stream_info(SANDBOX_STREAM)).state.messages == 1


async def test_the_stream_may_have_another_name(js: JetStreamContext, sandbox: Sandbox) -> None:
    config = stream_configs(StreamLimits(names=StreamNames(sandbox="ACME_SANDBOX")))[1]
    await js.add_stream(config)
    await js.add_stream(StreamConfig(name=SANDBOX_STREAM, subjects=["billing.>"]))
    namespace = NatsNamespace(js, stream="ACME_SANDBOX")
    await namespace.provision(sandbox)
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
    assert await namespace.list_ids() == {str(sandbox.id)}
    assert (await namespace.check(sandbox)).facts["messages"] == 1
    await namespace.drop(sandbox)
    assert await namespace.list_ids() == set()


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
