"""Events that a worker can't handle: they do not stop it, and are not lost."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
from collections.abc import Callable
from contextlib import aclosing

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from sandbox_core.context import Event, SandboxContext, environment
from sandbox_core.errors import DependencyUnavailable, InvalidInput
from sandbox_core.models import Sandbox
from sandbox_core.namespaces import NatsNamespace
from sandbox_core.namespaces.nats_letters import SandboxDeadLetters
from sandbox_core.nats.contents import StoredContents
from sandbox_core.nats.message_ids import MessageIds
from sandbox_core.nats.sandbox_streams import SandboxReads
from sandbox_core.postgres import Pool
from sandbox_core.settings import SettingsError
from sandbox_core.subjects import sandbox_subject
from tests.streams import stream_of, streams_at

GUILD = "100000000000000001"


class PoisonError(Exception):
    """What the worker's code raises; its text is nobody's business."""


async def emit(js: JetStreamContext, sandbox: Sandbox, *texts: str) -> None:
    for text in texts:
        await js.publish(
            sandbox_subject(sandbox.id, "MESSAGE_CREATE"),
            b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"content":"%s"}}' % text.encode(),
            headers={"Nats-Msg-Id": f"session:0:{text}", "Discord-Guild-Id": GUILD, "Sandbox-Id": "x"},
        )


@pytest.fixture
def letters(pool: Pool, js: JetStreamContext) -> SandboxDeadLetters:
    return SandboxDeadLetters(pool, None, streams_at(js))


async def run(context: SandboxContext, handled: list[str], expected: int, **named: int) -> None:
    """One life of a worker that dies of poison, or ends once it has handled so many."""
    async with aclosing(context.events(**named)) as events:
        async for event in events:
            if event.data["content"].startswith("poison"):
                raise PoisonError("hunter2")
            handled.append(event.data["content"])
            if len(handled) == expected:
                break


async def lives(context: SandboxContext, expected: int, **named: int) -> tuple[list[str], int]:
    """A supervisor: it starts the worker anew each time, until it ends well."""
    handled: list[str] = []
    deaths = 0
    while True:
        try:
            async with asyncio.timeout(60):
                await run(context, handled, expected, **named)
        except PoisonError:
            deaths += 1
        else:
            return handled, deaths


async def test_a_poison_event_does_not_stop_the_events_behind_it(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, letters: SandboxDeadLetters
) -> None:
    good = [f"good {number}" for number in range(30)]
    await emit(js, sandbox, "poison", *good)
    handled, deaths = await lives(context, 31 - 1)
    while deaths < 5:
        # The others were handled meanwhile; what remains is the poison alone.
        with pytest.raises(PoisonError):
            await run(context, [], 1)
        deaths += 1
    assert sorted(handled) == sorted(good)
    assert deaths == 5
    (letter,) = await letters.list(sandbox.id, limit=10)
    assert (letter.subject, letter.event_type) == (
        sandbox_subject(sandbox.id, "MESSAGE_CREATE"),
        "MESSAGE_CREATE",
    )
    assert b'"content":"poison"' in letter.frame
    assert letter.headers["Dead-Letter-Msg-Id"] == "session:0:poison"
    assert letter.headers["Dead-Letter-Error"] == "PoisonError"
    assert letter.headers["Dead-Letter-Consumer"] == f"{sandbox.id}-worker"
    assert letter.headers["Discord-Guild-Id"] == GUILD
    assert letter.deliveries == 5
    assert context.dead_letters == 1
    assert "hunter2" not in str(letter)


async def test_the_number_of_deliveries_is_a_parameter_before_it_is_a_variable(
    servers_env: dict[str, str],
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    letters: SandboxDeadLetters,
) -> None:
    variables = environment(sandbox, max_deliveries=2)
    assert variables["SANDBOX_MAX_DELIVERIES"] == "2"
    await emit(js, sandbox, "poison", "good")
    async with SandboxContext.from_env(servers_env | variables) as two:
        for _ in range(2):
            with pytest.raises(PoisonError):
                await run(two, [], 2)
        assert [letter.deliveries for letter in await letters.list(sandbox.id, limit=9)] == [2]
        await emit(js, sandbox, "poison again")
        with pytest.raises(PoisonError):
            await run(two, [], 9, max_deliveries=1)
        assert [letter.deliveries for letter in await letters.list(sandbox.id, limit=9)] == [2, 1]


@pytest.mark.parametrize("text", ["0", "-1", "five", "1.5", "9" * 20, "²"])
def test_a_number_of_deliveries_that_is_none(
    servers_env: dict[str, str], sandbox: Sandbox, text: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        SandboxContext.from_env(servers_env | environment(sandbox) | {"SANDBOX_MAX_DELIVERIES": text})
    assert refused.value.problems == [
        "SANDBOX_MAX_DELIVERIES can't be used: it takes a whole number from 1 to 999999999."
    ]


async def test_a_loop_over_a_handler_goes_on_whatever_it_raises(
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    letters: SandboxDeadLetters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox_core.context._events._PAUSE_GROWS", 0.001)
    monkeypatch.setattr("sandbox_core.context._events._LONGEST_PAUSE", 0.01)
    tries: list[int] = []
    handled: asyncio.Queue[str] = asyncio.Queue()

    async def handle(event: Event) -> None:
        if event.data["content"] == "poison":
            tries.append(event.delivery)
            raise PoisonError
        handled.put_nowait(event.data["content"])

    async def waiting() -> tuple[int | None, int | None]:
        info = await js.consumer_info(stream_of(sandbox.id), f"{sandbox.id}-worker")
        return info.num_ack_pending, info.num_pending

    await emit(js, sandbox, "poison", "one", "two")
    with capture_logs() as logs:
        worker = asyncio.create_task(context.for_each(handle))
        assert {await asyncio.wait_for(handled.get(), 60) for _ in range(2)} == {"one", "two"}
        async with asyncio.timeout(60):
            while not await letters.list(sandbox.id, limit=1):
                await asyncio.sleep(0.02)
        await emit(js, sandbox, "three")
        assert await asyncio.wait_for(handled.get(), 60) == "three"
        # It is acknowledged after its handler has returned. Then nothing is left to be delivered.
        async with asyncio.timeout(60):
            while (left := await waiting()) != (0, 0):
                await asyncio.sleep(0.02)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
    assert tries == [1, 2, 3, 4, 5]
    assert [line["delivery"] for line in logs if line["event"] == "event_not_handled"] == tries
    (said,) = [line for line in logs if line["event"] == "event_dead_lettered"]
    assert (said["error"], said["deliveries"], said["message_id"]) == ("PoisonError", "5", "session:0:poison")
    assert await waiting() == left


async def test_workers_that_are_killed(
    servers_env: dict[str, str],
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    letters: SandboxDeadLetters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They give nothing back and tell nothing; those behind the poison are delivered as often, and live."""
    monkeypatch.setattr("sandbox_core.context._context.ACK_WAIT_SECONDS", 0.5)
    good = [f"good {number}" for number in range(20)]
    await emit(js, sandbox, "first", "poison", *good)
    handled: list[str] = []
    async with asyncio.timeout(120):
        while len(handled) < 21 or not await letters.list(sandbox.id, limit=1):
            # One that could not connect, or lost its connection, is begun again like a killed one.
            with contextlib.suppress(DependencyUnavailable):
                async with SandboxContext.from_env(servers_env | environment(sandbox)) as worker:
                    events = worker.events()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(2):
                            async for event in events:
                                if event.data["content"] == "poison":
                                    break
                                handled.append(event.data["content"])
                    # As after SIGKILL: the connection goes, and nothing is said.
                    await worker._nats.client.close()
    assert {*handled} == {"first", *good}
    (letter,) = await letters.list(sandbox.id, limit=9)
    assert b'"content":"poison"' in letter.frame
    assert letter.deliveries == 5
    assert "Dead-Letter-Error" not in letter.headers


async def test_it_is_acknowledged_only_when_the_letter_is_stored(
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    letters: SandboxDeadLetters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kill in between: the event comes again, and its letter is there once."""
    await emit(js, sandbox, "poison", "good")
    keep = context._letters.keep

    async def killed(*arguments: object) -> bool:
        await keep(*arguments)  # type: ignore[arg-type]
        raise asyncio.CancelledError

    monkeypatch.setattr(context._letters, "keep", killed)
    with pytest.raises(asyncio.CancelledError):
        await run(context, [], 9, max_deliveries=1)
    assert len(await letters.list(sandbox.id, limit=9)) == 1
    info = await js.consumer_info(stream_of(sandbox.id), f"{sandbox.id}-worker")
    assert info.num_ack_pending
    monkeypatch.undo()
    info.config.ack_wait = 0.1
    await js.add_consumer(stream_of(sandbox.id), info.config)
    handled: list[str] = []
    monkeypatch.setattr("sandbox_core.context._context.ACK_WAIT_SECONDS", 0.1)
    async with asyncio.timeout(60):
        await run(context, handled, 1, max_deliveries=1)
        while (await js.consumer_info(stream_of(sandbox.id), f"{sandbox.id}-worker")).num_redelivered:
            await asyncio.sleep(0.05)
            async with aclosing(context.events(max_deliveries=1)) as events:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.5)
    assert handled == ["good"]
    assert len(await letters.list(sandbox.id, limit=9)) == 1


async def test_a_letter_that_can_not_be_stored_does_not_stop_the_loop(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, letters: SandboxDeadLetters
) -> None:
    config = (await js.stream_info(stream_of(sandbox.id))).config
    await emit(js, sandbox, "poison")
    with pytest.raises(PoisonError):
        await run(context, [], 1, max_deliveries=2)
    await js.update_stream(config.evolve(subjects=[f"sandbox.{sandbox.id}.events.MESSAGE_CREATE"]))
    await emit(js, sandbox, "good")
    with capture_logs() as logs:
        handled, deaths = await lives(context, 1, max_deliveries=2)
    assert handled == ["good"]
    assert deaths <= 1
    if deaths:
        assert "dead_letter_not_stored" in [line["event"] for line in logs]
    assert await letters.list(sandbox.id, limit=9) == []


async def test_a_large_event_keeps_its_payload_or_tells_how_large_it_was(
    nats_client: Client,
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    letters: SandboxDeadLetters,
) -> None:
    most = nats_client.max_payload
    subject = sandbox_subject(sandbox.id, "GUILD_CREATE")
    await js.publish(subject, b"[" + b" " * (most - 200) + b"]", headers={"X": "y"})

    noise = os.urandom(most - 200)
    await js.publish(subject, noise, headers={"Content-Encoding": "gzip"})

    async def fail() -> None:
        async with aclosing(context.events(max_deliveries=1)) as events:
            async for _event in events:
                raise PoisonError

    for _ in range(2):
        with pytest.raises(PoisonError):
            await fail()
    packed, told = await letters.list(sandbox.id, limit=9)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.payload) == packed.frame == b"[" + b" " * (most - 200) + b"]"
    assert (told.payload, told.headers["Dead-Letter-Bytes"]) == (b"", str(len(noise)))
    with pytest.raises(InvalidInput, match="too large"):
        await letters.replay(told)
    assert context._nats.connected


async def test_a_letter_is_replayed_once_and_marked_as_such(
    context: SandboxContext, js: JetStreamContext, sandbox: Sandbox, letters: SandboxDeadLetters
) -> None:
    await emit(js, sandbox, "poison")
    with pytest.raises(PoisonError):
        await run(context, [], 1, max_deliveries=1)
    (letter,) = await letters.list(sandbox.id, limit=9)
    await letters.replay(letter)
    # A second one, as after a kill before the letter was removed, brings no second event.
    await letters.replay(letter)
    assert await letters.list(sandbox.id, limit=9) == []
    async with aclosing(context.events(max_deliveries=1)) as events:
        event = await asyncio.wait_for(anext(events), 60)
        assert event.data == {"content": "poison"}
        assert event.headers["Sandbox-Origin"] == "replayed"
        assert event.headers["Nats-Msg-Id"] != "session:0:poison"
        assert event.guild_id == GUILD
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.5)
    await letters.drop(letter)


async def test_letters_and_replayed_events_are_no_copies_of_what_the_gateway_published(
    nats_client: Client,
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    letters: SandboxDeadLetters,
) -> None:
    await emit(js, sandbox, "poison", "poison too")
    for _ in range(2):
        with pytest.raises(PoisonError):
            await run(context, [], 1, max_deliveries=1)
    await letters.replay((await letters.list(sandbox.id, limit=1))[0])
    found: list[bytes] = []
    contents = StoredContents(SandboxReads(MessageIds(nats_client, js), streams_at(js)))
    await contents.read({GUILD}, 0.0, lambda _guild, payload, _at: found.append(payload))
    assert [b"poison too" in payload for payload in found] == [False, True]


async def test_letters_of_others_and_forged_ones(
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    new_sandbox: Callable[..., Sandbox],
    letters: SandboxDeadLetters,
) -> None:
    other = new_sandbox()
    forged = {
        "": "it is of no event",
        "events.MESSAGE_CREATE": "it is of no event",
        sandbox_subject(other.id, "MESSAGE_CREATE"): "it is of no event",
        f"sandbox.{sandbox.id}.events.dead_letter.X": "it is of no event",
        f"sandbox.{sandbox.id}.events.*": "it is of no event",
    }
    for subject in forged:
        headers = {"Dead-Letter-Subject": subject, "Dead-Letter-Deliveries": "9" * 5000} if subject else None
        await js.publish(f"sandbox.{sandbox.id}.events.dead_letter.X", b"\xff", headers=headers)
    for letter in await letters.list(sandbox.id, limit=9):
        assert letter.deliveries == 0
        with pytest.raises(InvalidInput, match=forged[letter.subject]):
            await letters.replay(letter)
    (first, *_) = await letters.list(sandbox.id, limit=9)
    assert await letters.list(other.id, limit=9) == []
    for number in (str(first.id), "0", "-1", "x", "9" * 30, str(first.id + 1000), "٣"):
        with pytest.raises(InvalidInput, match="none with this id"):
            await letters.get(other.id, number)
    assert await letters.get(sandbox.id, str(first.id)) == first
    assert await letters.counts() == {str(sandbox.id): len(forged)}


async def test_they_outlive_events_and_go_with_their_sandbox(
    nats_client: Client,
    context: SandboxContext,
    js: JetStreamContext,
    sandbox: Sandbox,
    letters: SandboxDeadLetters,
) -> None:
    """Also in a stream that an earlier version made: it is brought to what this one needs."""
    config = (await js.stream_info(stream_of(sandbox.id))).config
    await js.delete_stream(stream_of(sandbox.id))
    await js.add_stream(config.evolve(allow_msg_ttl=None))
    await emit(js, sandbox, "poison early")
    with pytest.raises(PoisonError):
        await run(context, [], 1, max_deliveries=1)
    assert len(await letters.list(sandbox.id, limit=9)) == 1
    await js.purge_stream(stream_of(sandbox.id))
    await streams_at(js).make(sandbox.id)
    present = (await js.stream_info(stream_of(sandbox.id))).config
    assert present.allow_msg_ttl
    await emit(js, sandbox, "poison", "poison too", "good")
    for _ in range(2):
        with pytest.raises(PoisonError):
            await run(context, [], 1, max_deliveries=1)
    await js.update_stream(present.evolve(max_age=0.2, duplicate_window=0.2))
    async with asyncio.timeout(60):
        while (await js.stream_info(stream_of(sandbox.id))).state.messages > 2:
            await asyncio.sleep(0.05)
    assert len(await letters.list(sandbox.id, limit=9)) == 2
    namespace = NatsNamespace(streams_at(js))
    health = await namespace.check(sandbox)
    assert (health.facts["dead_letters"], health.facts["messages"]) == (2, 0)
    assert health.detail == "no events stored, 2 dead letters"
    assert await namespace.list_ids() == {str(sandbox.id)}
    await namespace.drop(sandbox)
    assert await letters.list(sandbox.id, limit=9) == []
    assert await namespace.list_ids() == set()
