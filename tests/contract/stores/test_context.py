from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.errors import APIError
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.context import Event, SandboxContext, _events, environment
from sandbox_core.errors import DependencyUnavailable, InvalidInput
from sandbox_core.models import Sandbox
from sandbox_core.subjects import (
    EVENTS_STREAM,
    sandbox_subject,
)
from tests.streams import stream_of, streams_at

GUILD = "100000000000000001"
SERVERS = {
    "DATABASE_URL": "postgresql://u:very-secret@127.0.0.1/x",
    "REDIS_URL": "redis://127.0.0.1/0",
    "NATS_URL": "nats://127.0.0.1",
}


async def take(context: SandboxContext, count: int, *types: str, **named: object) -> list[Event]:
    taken: list[Event] = []
    async with aclosing(context.events(*types, **named)) as events:  # type: ignore[arg-type]
        async for event in events:
            # One more than asked for would mean waiting for it; the last one stays unacknowledged.
            taken.append(event)
            if len(taken) == count:
                break
    return taken


async def emit(js: JetStreamContext, sandbox: Sandbox, kind: str, text: str) -> None:
    await js.publish(
        sandbox_subject(sandbox.id, kind),
        b'{"t":"%s","s":1,"op":0,"d":{"content":"%s"}}' % (kind.encode(), text.encode()),
        headers={"Discord-Guild-Id": GUILD},
    )


async def test_tables_and_keys_are_the_sandboxs(
    context: SandboxContext, sandbox: Sandbox, redis: Redis
) -> None:
    await context.pool.execute("INSERT INTO communities (guild_id, name) VALUES ($1, 'x')", GUILD)
    schema = await context.pool.fetchval(
        "SELECT nspname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE pg_class.oid = 'communities'::regclass"
    )
    assert schema == sandbox.schema_name
    await context.redis.set("greeting", "hello")
    assert await context.redis.get("greeting") == "hello"
    assert await redis.keys() == [f"sandbox:{sandbox.id}:greeting"]


async def test_published_below_the_prefix(
    context: SandboxContext, nats_client: Client, sandbox: Sandbox
) -> None:
    heard = await nats_client.subscribe(f"sandbox.{sandbox.id}.jobs.*")
    await nats_client.flush()
    await context.publish("jobs.resize", b"payload", headers={"Size": "2"})
    await context.publish("jobs.done", b"")
    message = await heard.next_msg(60)
    assert message.subject == f"sandbox.{sandbox.id}.jobs.resize"
    assert (message.data, message.headers) == (b"payload", {"Size": "2"})


@pytest.mark.parametrize("tail", ["", ">", "*", "a..b", ".a", "a.", "a b", "jobs.>", "ä"])
async def test_a_tail_that_could_be_another_subject(sandbox: Sandbox, tail: str) -> None:
    context = SandboxContext.from_env(SERVERS | environment(sandbox))
    with pytest.raises(InvalidInput):
        await context.publish(tail, b"")


@pytest.mark.parametrize(("types", "consumer"), [(("message",), "w"), (("*",), "w"), ((), "a.b"), ((), "")])
async def test_names_that_are_none(sandbox: Sandbox, types: tuple[str, ...], consumer: str) -> None:
    context = SandboxContext.from_env(SERVERS | environment(sandbox))
    with pytest.raises(InvalidInput):
        await anext(context.events(*types, consumer=consumer))


async def test_events_of_the_sandbox_alone(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, new_sandbox: Callable[..., Sandbox]
) -> None:
    other = new_sandbox()
    await streams_at(js).make(other.id)
    await emit(js, other, "MESSAGE_CREATE", "somebody else's")
    await emit(js, sandbox, "TYPING_START", "not asked for")
    await emit(js, sandbox, "MESSAGE_CREATE", "one")
    await js.publish(
        sandbox_subject(sandbox.id, "MESSAGE_DELETE"),
        gzip.compress(b'{"d":{"content":"two"}}'),
        headers={"Content-Encoding": "gzip"},
    )
    first, second = await take(context, 2, "MESSAGE_CREATE", "MESSAGE_DELETE")
    assert (first.type, first.guild_id, first.data) == ("MESSAGE_CREATE", GUILD, {"content": "one"})
    assert first.raw == b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"content":"one"}}'
    assert (second.type, second.guild_id, second.data) == ("MESSAGE_DELETE", None, {"content": "two"})
    assert second.subject == sandbox_subject(sandbox.id, "MESSAGE_DELETE")
    assert dict(first.headers) == {"Discord-Guild-Id": GUILD}


async def test_what_is_no_frame_does_not_stop_the_events_behind_it(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox
) -> None:
    for payload in (b"\xff not json", b"[1]"):
        await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), payload)
    await emit(js, sandbox, "MESSAGE_CREATE", "one")
    assert [event.data for event in await take(context, 3)] == [None, None, {"content": "one"}]


async def test_it_decodes_whatever_the_gateway_routes(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox
) -> None:
    subject = sandbox_subject(sandbox.id, "MESSAGE_CREATE")
    whole = gzip.compress(b'{"d":{"content":"packed"}}')
    packed = {"Content-Encoding": "gzip"}
    await js.publish(subject, b'{"t":"MESSAGE_CREATE","d":{"content":"\xff\xfe"}}')
    await js.publish(subject, rb'{"t":"MESSAGE_CREATE","d":{"content":"\ud83d"}}')
    await js.publish(subject, whole[:-6], headers=packed)
    await js.publish(subject, whole[:12] + b"\xff" * 20, headers=packed)
    await js.publish(subject, b'{"d":{"content":"never packed"}}', headers=packed)
    await js.publish(subject, b'{"d":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    await emit(js, sandbox, "MESSAGE_CREATE", "behind them")
    events = await take(context, 7)
    assert [event.data for event in events] == [
        {"content": "\ufffd\ufffd"},
        {"content": "\ud83d"},
        None,
        None,
        {"content": "never packed"},
        None,
        {"content": "behind them"},
    ]


@pytest.mark.parametrize("levels", [1_000, 100_000])
async def test_an_event_nested_however_deep_comes_and_so_do_those_behind_it(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, levels: int
) -> None:
    deep = b"[" * levels + b"]" * levels
    raw = b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"id":"5","x":%s,"content":"deep"}}' % deep
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), raw)
    await js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), deep[: levels + 5])
    await emit(js, sandbox, "MESSAGE_CREATE", "behind them")
    first, second, third = await take(context, 3)
    assert first.raw == raw
    # How deep a parser goes differs from Python to Python.
    assert first.data is None or first.data["content"] == "deep"
    assert second.data is None
    assert third.data == {"content": "behind them"}


async def test_headers_of_an_event_that_are_copied_are_no_orders_to_the_server(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox
) -> None:
    subject = sandbox_subject(sandbox.id, "MESSAGE_CREATE")
    await js.publish(
        subject, b'{"d":{}}', headers={"Nats-Msg-Id": "a:0:1", "Discord-Event": "MESSAGE_CREATE"}
    )
    (event,) = await take(context, 1)
    for headers in (event.headers, {**event.headers, "nats-expected-stream": "ANOTHER"}):
        await context.publish("events.MINE", b"body", headers=headers)
    await context.publish("events.OTHER", b"")
    info = None
    while info is None or info.state.messages < 4:
        info = await js.stream_info(stream_of(sandbox.id))
    stored = await js.get_last_msg(stream_of(sandbox.id), f"sandbox.{sandbox.id}.events.MINE")
    assert (stored.data, stored.headers) == (b"body", {"Discord-Event": "MESSAGE_CREATE"})


async def test_an_unhandled_event_comes_again(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox
) -> None:
    for text in ("one", "two", "three"):
        await emit(js, sandbox, "MESSAGE_CREATE", text)

    async def work() -> None:
        async with aclosing(context.events()) as events:
            async for event in events:
                if event.data["content"] == "two":
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    again = await take(context, 2)
    assert sorted(event.data["content"] for event in again) == ["three", "two"]


async def test_the_stream_is_lost_and_made_again(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_core.context._events._FETCH_SECONDS", 0.2)
    monkeypatch.setattr("sandbox_core.context._events._RETRY_SECONDS", 0.02)
    received: asyncio.Queue[str] = asyncio.Queue()

    async def work() -> None:
        async for event in context.events("MESSAGE_CREATE"):
            received.put_nowait(event.data["content"])

    worker = asyncio.create_task(work())
    await emit(js, sandbox, "MESSAGE_CREATE", "before")
    assert await asyncio.wait_for(received.get(), 60) == "before"
    config = (await js.stream_info(stream_of(sandbox.id))).config
    refused = asyncio.Event()
    subscribe = context._subscribe

    async def noting_refusals(*arguments):  # type: ignore[no-untyped-def]
        try:
            return await subscribe(*arguments)
        except DependencyUnavailable:
            refused.set()
            raise

    monkeypatch.setattr(context, "_subscribe", noting_refusals)
    await js.delete_stream(stream_of(sandbox.id))
    await asyncio.wait_for(refused.wait(), 60)
    await js.add_stream(config)
    await emit(js, sandbox, "MESSAGE_CREATE", "after")
    assert await asyncio.wait_for(received.get(), 60) == "after"
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def test_nats_restarts_under_a_worker(
    servers: EmbeddedServers,
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox_core.context._events._FETCH_SECONDS", 0.2)
    monkeypatch.setattr("sandbox_core.context._context._JETSTREAM_TIMEOUT", 0.2)
    received: asyncio.Queue[str] = asyncio.Queue()

    async def work() -> None:
        async for event in context.events():
            received.put_nowait(event.data["content"])

    worker = asyncio.create_task(work())
    await emit(js, sandbox, "MESSAGE_CREATE", "before")
    assert await asyncio.wait_for(received.get(), 60) == "before"
    config = (await js.stream_info(stream_of(sandbox.id))).config
    await servers.nats.kill()
    await servers.nats.start()
    for _ in range(200):
        try:
            await js.add_stream(config)
            break
        except Exception:
            await asyncio.sleep(0.05)
    await emit(js, sandbox, "MESSAGE_CREATE", "after")
    assert await asyncio.wait_for(received.get(), 60) == "after"
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def test_without_an_id_it_is_production(
    servers_env: dict[str, str], js: JetStreamContext, redis: Redis
) -> None:
    await js.add_stream(StreamConfig(name=EVENTS_STREAM, subjects=["events.>"]))
    await js.publish("events.MESSAGE_CREATE", b'{"d":"long ago"}')
    async with SandboxContext.from_env(servers_env) as context:
        await context.redis.set("greeting", "hello")
        assert await redis.keys() == ["greeting"]
        assert await context.pool.fetchval("SHOW search_path") == '"$user", public'
        events = context.events()
        first = asyncio.create_task(anext(events))
        while not await js.consumers_info(EVENTS_STREAM):
            await asyncio.sleep(0.01)
        await js.publish("events.dead_letter.TOO_LARGE", b"")
        await context.publish("events.MESSAGE_CREATE", b'{"d":"now"}')
        event = await asyncio.wait_for(first, 60)
        assert (event.type, event.data) == ("MESSAGE_CREATE", "now")
        await events.aclose()


async def test_a_server_that_is_away_stops_the_entering(servers_env: dict[str, str]) -> None:
    for variable, url in [("NATS_URL", "nats://127.0.0.1:1"), ("DATABASE_URL", "postgresql://127.0.0.1:1/x")]:
        with pytest.raises(DependencyUnavailable):
            async with SandboxContext.from_env(servers_env | {variable: url}):
                pytest.fail("it must not open")


async def test_a_refusal_that_waiting_does_not_mend_is_raised(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has made the consumer in a way that can't be changed."""
    await js.add_consumer(
        stream_of(sandbox.id), ConsumerConfig(durable_name="fixed", ack_policy=AckPolicy.NONE)
    )
    config = context._consumer((), "worker")
    config.name = config.durable_name = "fixed"
    monkeypatch.setattr(context, "_consumer", lambda *_: config)
    with pytest.raises(InvalidInput) as refused:
        await anext(context.events())
    assert refused.value.value == "fixed"


async def test_a_consumer_removed_under_a_worker_is_made_again(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_core.context._events._RETRY_SECONDS", 0.02)
    first = asyncio.create_task(anext(context.events("MESSAGE_CREATE")))
    while not (made := await js.consumers_info(stream_of(sandbox.id))) or not made[0].num_waiting:
        await asyncio.sleep(0.01)
    await js.delete_consumer(stream_of(sandbox.id), made[0].name)
    await emit(js, sandbox, "MESSAGE_CREATE", "after")
    assert (await asyncio.wait_for(first, 60)).data == {"content": "after"}


async def test_a_stream_without_room_for_a_consumer(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox
) -> None:
    """A limit that an operator has set; its text is JetStream's."""
    config = (await js.stream_info(stream_of(sandbox.id))).config
    await js.delete_stream(stream_of(sandbox.id))
    config.max_consumers = 1
    await js.add_stream(config)
    await js.add_consumer(stream_of(sandbox.id), ConsumerConfig(durable_name="only"))
    with pytest.raises(APIError, match="maximum consumers"):
        await anext(context.events())


async def test_hours_without_an_event_end_nothing(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_core.context._events._FETCH_SECONDS", 0.05)
    fetch, in_vain = _events._fetch, asyncio.Event()

    async def counted(*arguments: Any) -> Any:
        messages = await fetch(*arguments)
        if messages == []:
            in_vain.set()
        return messages

    monkeypatch.setattr("sandbox_core.context._events._fetch", counted)
    first = asyncio.create_task(anext(context.events()))
    await asyncio.wait_for(in_vain.wait(), 60)
    await emit(js, sandbox, "MESSAGE_CREATE", "at last")
    assert (await asyncio.wait_for(first, 60)).data == {"content": "at last"}


async def test_after_leaving_the_context_no_event_is_waited_for(
    servers_env: dict[str, str], sandbox: Sandbox, js: JetStreamContext, sandbox_stream: None
) -> None:
    async with SandboxContext.from_env(servers_env | environment(sandbox)) as context:
        await emit(js, sandbox, "MESSAGE_CREATE", "one")
        events = context.events()
        await anext(events)
    # The acknowledgement of the event in hand can't be sent any more, nor can another be asked for.
    for late in (events, context.events()):
        with pytest.raises(DependencyUnavailable):
            await anext(late)
