"""Streams that are somebody else's, or not what they have to be: said in a sentence, and left as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import (
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamSource,
    SubjectTransform,
)
from nats.js.errors import NotFoundError
from structlog.testing import capture_logs

from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable, StreamUnusable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.sandbox_streams import sandbox_config
from sandbox_core.nats.stored import StoredEvents
from sandbox_core.nats.stream_faults import OWNER
from sandbox_core.nats.streams import (
    MADE_BY,
    MARK,
    FaultKind,
    StreamLimits,
    Streams,
    events_config,
    find_overlap,
    is_ours,
    judge,
)
from sandbox_core.nats.wire import Label
from sandbox_core.subjects import StreamNames
from tests.conftest import ROOT
from tests.streams import StreamsOf, reads_of

from .conftest import SANDBOX_1, SANDBOX_2, until

OURS = {MADE_BY: MARK}
EVENTS, SANDBOX = events_config(StreamLimits()), sandbox_config(StreamLimits(), SANDBOX_1)
STREAM = str(SANDBOX.name)


async def facts(client: Client, stream: str) -> Any:
    """All that the server says about a stream's configuration and what it holds, but for the time of day."""
    answer = await client.request(f"$JS.API.STREAM.INFO.{stream}", b"")
    told = json.loads(answer.data)
    return {field: told[field] for field in ("config", "created", "state")}


async def refusal(connection: NatsConnection, limits: StreamLimits | None = None) -> StreamUnusable:
    streams = StreamsOf(
        connection.client.jetstream(timeout=2), SANDBOX_1, limits=limits, server=lambda: connection.server
    )
    with pytest.raises(StreamUnusable) as refused:
        await streams.ensure()
    if refused.value.stream.startswith("SANDBOX"):
        # Other sandboxes' events do not wait for that.
        assert streams.sandboxes.ready
        assert streams.sandboxes.obstacle is refused.value
    else:
        assert not streams.production.ready
        assert streams.production.obstacle is refused.value
    return refused.value


async def test_a_foreign_stream_of_our_name_is_refused_and_untouched(
    connection: NatsConnection, reader: Client, nats_url: str
) -> None:
    js = reader.jetstream()
    await js.add_stream(
        StreamConfig(name="EVENTS", subjects=["billing.>"], retention=RetentionPolicy.WORK_QUEUE, max_age=60)
    )
    await js.publish("billing.invoice", b"1")
    before = await facts(reader, "EVENTS")
    refused = await refusal(connection)
    assert await facts(reader, "EVENTS") == before
    text = str(explain(refused))
    host_and_port = nats_url.rsplit("@", 1)[-1].rsplit("/", 1)[-1]
    for part in ("EVENTS", "billing.>", host_and_port, "NATS_EVENTS_STREAM", "NATS_EVENTS_PREFIX"):
        assert part in text
    assert "delete" not in text
    assert "stream edit" not in text
    assert refused.code == "SANDBOX_012"
    assert [stream.config.name for stream in await js.streams_info()] == ["EVENTS"]


async def test_an_unmarked_stream_with_our_subjects_may_be_ours_and_is_still_left_alone(
    connection: NatsConnection, reader: Client
) -> None:
    js = reader.jetstream()
    await js.add_stream(StreamConfig(name="EVENTS", subjects=["events.>"], max_age=60))
    before = await facts(reader, "EVENTS")
    refused = await refusal(connection)
    assert await facts(reader, "EVENTS") == before
    assert f"nats stream edit EVENTS --metadata {MADE_BY}={MARK}" in refused.mend


@pytest.mark.parametrize(
    ("subjects", "wanted", "setting"),
    [
        ("events.>", "EVENTS", "NATS_EVENTS_PREFIX"),
        ("events.MESSAGE_CREATE", "EVENTS", "NATS_EVENTS_PREFIX"),
        ("events.*", "EVENTS", "NATS_EVENTS_PREFIX"),
        (f"sandbox.{SANDBOX_1}.events.X", STREAM, "account"),
        ("sandbox.>", STREAM, "account"),
    ],
)
async def test_subjects_that_another_stream_takes_are_named_with_it(
    connection: NatsConnection, reader: Client, subjects: str, wanted: str, setting: str
) -> None:
    js = reader.jetstream()
    await js.add_stream(StreamConfig(name="OTHER", subjects=[subjects]))
    before = await facts(reader, "OTHER")
    refused = await refusal(connection)
    assert await facts(reader, "OTHER") == before
    assert refused.stream == wanted
    assert f"OTHER (subjects {subjects})" in refused.reason
    assert setting in refused.mend
    for config in (EVENTS, SANDBOX):
        fault = await find_overlap(js, config)
        # What `ensure` would say can be asked before.
        assert (fault is not None) == (config.name == wanted)
        if fault is not None:
            assert refused.reason == f"the stream {wanted} {fault.problem}"


@pytest.mark.parametrize(
    ("stream", "odd", "said"),
    [
        ("EVENTS", {"no_ack": True}, "no_ack"),
        ("EVENTS", {"subjects": [], "mirror": StreamSource(name="SOURCE")}, "a mirror of SOURCE"),
        ("EVENTS", {"sources": [StreamSource(name="SOURCE")]}, "sources SOURCE"),
        ("EVENTS", {"subject_transform": SubjectTransform("events.>", "other.>")}, "subject_transform"),
        ("EVENTS", {"retention": RetentionPolicy.WORK_QUEUE}, "a work queue"),
        ("EVENTS", {"storage": StorageType.MEMORY}, "other storage"),
        (STREAM, {"storage": StorageType.FILE}, "other storage"),
        (STREAM, {"no_ack": True}, "no_ack"),
        (STREAM, {"metadata": {MADE_BY: MARK, OWNER: SANDBOX_2}}, f"no sandbox={SANDBOX_1}"),
    ],
)
async def test_one_of_ours_that_cannot_work_is_refused_and_untouched(
    connection: NatsConnection, reader: Client, stream: str, odd: dict[str, Any], said: str
) -> None:
    js = reader.jetstream()
    await js.add_stream(StreamConfig(name="SOURCE", subjects=["source.>"]))
    await js.add_stream((EVENTS if stream == "EVENTS" else SANDBOX).evolve(**odd))
    before = await facts(reader, stream)
    refused = await refusal(connection)
    assert refused.stream == stream
    assert said in refused.reason
    assert refused.mend
    assert await facts(reader, stream) == before


async def test_what_jetstream_itself_refuses_is_told_in_its_words(
    connection: NatsConnection, reader: Client
) -> None:
    refused = await refusal(connection, StreamLimits(replicas=3))
    assert "can't be made: replicas > 1 not supported in non-clustered mode" in refused.reason
    await Streams(connection.client.jetstream(timeout=2), StreamLimits()).ensure()
    before = await facts(reader, "EVENTS")
    refused = await refusal(connection, StreamLimits(replicas=3))
    assert "other num_replicas, and can't be changed: replicas > 1" in refused.reason
    assert await facts(reader, "EVENTS") == before


async def test_what_can_be_changed_in_one_of_ours_is(connection: NatsConnection, reader: Client) -> None:
    js = reader.jetstream()
    config = EVENTS
    await js.add_stream(config.evolve(retention=RetentionPolicy.INTEREST))
    await Streams(connection.client.jetstream(timeout=2), StreamLimits()).ensure()
    assert judge((await js.stream_info("EVENTS")).config, config) == []


async def test_subjects_that_are_wanted_anew_may_be_taken(connection: NatsConnection, reader: Client) -> None:
    js = reader.jetstream()
    await Streams(connection.client.jetstream(timeout=2), StreamLimits()).ensure()
    await js.add_stream(StreamConfig(name="OTHER", subjects=["acme.>"]))
    names = StreamNames(prefix="acme.discord")
    refused = await refusal(connection, StreamLimits(names=names))
    assert "OTHER (subjects acme.>)" in refused.reason
    assert (await js.stream_info("EVENTS")).config.subjects == ["events.>"]


async def test_a_sealed_stream_is_refused(connection: NatsConnection, reader: Client) -> None:
    js = reader.jetstream()
    config = EVENTS
    await js.add_stream(config)
    await js.update_stream(config.evolve(sealed=True))
    assert "is sealed" in (await refusal(connection)).reason


async def test_a_stream_that_an_operator_made_with_the_mark_is_used(
    connection: NatsConnection, reader: Client
) -> None:
    js = reader.jetstream()
    for config in (EVENTS, SANDBOX):
        # What deny_delete forbids is never done, and the rest is an operator's to decide.
        await js.add_stream(config.evolve(max_bytes=10**7, deny_delete=True, description="by hand"))
    before = [await facts(reader, name) for name in ("EVENTS", STREAM)]
    await StreamsOf(connection.client.jetstream(timeout=2), SANDBOX_1).ensure()
    assert [await facts(reader, name) for name in ("EVENTS", STREAM)] == before


async def test_the_configurations_in_the_guide_are_what_the_bot_would_make(
    connection: NatsConnection, reader: Client
) -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    given = [
        json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    ]
    names = [config["name"] for config in given]
    assert names == ["EVENTS"]
    for config in given:
        question = f"$JS.API.STREAM.CREATE.{config['name']}"
        answer = await reader.request(question, json.dumps(config).encode())
        assert "error" not in json.loads(answer.data), answer.data
    before = [await facts(reader, name) for name in names]
    assert judge((await reader.jetstream().stream_info("EVENTS")).config, EVENTS) == []
    await Streams(connection.client.jetstream(timeout=2), StreamLimits()).ensure()
    assert [await facts(reader, name) for name in names] == before


async def test_the_reason_goes_with_the_obstacle(connection: NatsConnection, reader: Client) -> None:
    js = reader.jetstream()
    await js.add_stream(StreamConfig(name="EVENTS", subjects=["billing.>"]))
    streams = Streams(connection.client.jetstream(timeout=2), StreamLimits())
    with pytest.raises(StreamUnusable):
        await streams.ensure()
    await js.delete_stream("EVENTS")
    await streams.ensure()
    assert streams.ready
    assert streams.obstacle is None
    assert is_ours((await js.stream_info("EVENTS")).config)


async def test_what_a_foreign_stream_holds_is_not_even_read(
    connection: NatsConnection, reader: Client
) -> None:
    js = reader.jetstream()
    for name, subjects in (("EVENTS", "events.>"), (STREAM, "sandbox.>")):
        await js.add_stream(
            StreamConfig(name=name, subjects=[subjects], retention=RetentionPolicy.WORK_QUEUE)
        )
    await js.publish("events.MESSAGE_CREATE", b"{}", headers={"Nats-Msg-Id": "session:0:7"})
    await js.publish(f"sandbox.{SANDBOX_1}.events.X", b"{}", headers={"Nats-Msg-Id": "session:0:8"})
    stored = StoredEvents(reads_of(connection))
    assert await stored.sequences("session", 0, after=0, since=0.0) == set()
    for name in ("EVENTS", STREAM):
        state = (await facts(reader, name))["state"]
        assert state["consumer_count"] == 0


async def test_streams_have_the_names_of_the_settings(connection: NatsConnection, reader: Client) -> None:
    names = StreamNames("PROD_EVENTS", "acme.discord", "ACME_SANDBOX")
    limits = StreamLimits(names=names)
    await StreamsOf(connection.client.jetstream(timeout=2), SANDBOX_1, limits=limits).ensure()
    made = {info.config.name: info.config.subjects for info in await reader.jetstream().streams_info()}
    assert made == {
        "PROD_EVENTS": ["acme.discord.>"],
        "ACME_SANDBOX_3f2a9c01": [f"sandbox.{SANDBOX_1}.events.>"],
    }


def test_the_judgement_tells_apart_what_stops_what_changes_and_what_is_told() -> None:
    wanted = EVENTS
    assert judge(wanted, wanted) == []
    (foreign,) = judge(wanted.evolve(metadata=None, no_ack=True, max_bytes=1), wanted)
    assert (foreign.kind, foreign.stops) == (FaultKind.FOREIGN, True)
    (foreign,) = judge(wanted.evolve(metadata={MADE_BY: "billing"}), wanted)
    assert foreign.kind is FaultKind.FOREIGN
    (other_age,) = judge(wanted.evolve(max_age=60.0), wanted)
    assert (other_age.kind, other_age.stops, other_age.field) == (FaultKind.DIFFERS, False, "max_age")
    (limit,) = judge(wanted.evolve(max_bytes=10**6), wanted)
    assert (limit.kind, limit.stops, limit.field) == (FaultKind.LIMIT, False, "max_bytes")
    (refusing,) = judge(wanted.evolve(max_bytes=10**6, discard=DiscardPolicy.NEW), wanted)
    assert "they then wait" in refusing.problem
    worst_first = judge(wanted.evolve(no_ack=True, max_age=60.0, max_msg_size=100), wanted)
    assert [fault.kind for fault in worst_first] == [FaultKind.NO_ACK, FaultKind.DIFFERS, FaultKind.LIMIT]


class Recorder:
    """Collects what the publisher reports."""

    def __init__(self) -> None:
        self.acknowledged_contexts: list[object] = []

    def acknowledged(self, publications: Sequence[Publication]) -> None:
        self.acknowledged_contexts += [publication.context for publication in publications]

    def attempt_failed(self, reason: str) -> None:
        """Nothing to collect."""


async def test_events_wait_until_the_stream_can_be_used_and_each_reason_is_told_once(
    connection: NatsConnection, reader: Client
) -> None:
    js = reader.jetstream()
    await js.add_stream(StreamConfig(name="EVENTS", subjects=["billing.>"]))
    streams = Streams(connection.client.jetstream(timeout=2), StreamLimits(), server=lambda: "nats:4222")
    recorder = Recorder()
    publisher = AckPublisher(connection, streams, recorder)

    def told() -> list[str]:
        return [str(line["reason"]) for line in lines if line["event"] == "publishing_waits"]

    with capture_logs() as lines:
        await publisher.start()
        try:
            label = Label("events.TEST", {"Nats-Expected-Stream": "EVENTS"})
            publisher.submit(Publication(label, "session:0:1", b"{}", "first"))
            await until(told)
            assert "billing.>" in told()[0]
            assert "nats:4222" in told()[0]
            assert "NATS_EVENTS_STREAM" in told()[0]
            await js.delete_stream("EVENTS")
            await js.add_stream(EVENTS.evolve(no_ack=True))
            await until(lambda: len(told()) == 2)
            assert "no_ack" in told()[1]
            assert not recorder.acknowledged_contexts
            await js.update_stream(EVENTS)
            await until(lambda: recorder.acknowledged_contexts == ["first"])
            assert len(told()) == 2
        finally:
            await publisher.close()
    assert (await js.stream_info("EVENTS")).state.messages == 1


async def test_two_processes_with_other_settings_may_make_a_stream_at_once(
    connection: NatsConnection, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Streams(reader.jetstream(), StreamLimits()).ensure()
    js = connection.client.jetstream(timeout=2)
    look = js.stream_info

    async def not_yet(name: str) -> Any:
        monkeypatch.setattr(js, "stream_info", look)
        raise NotFoundError

    monkeypatch.setattr(js, "stream_info", not_yet)
    streams = Streams(js, StreamLimits(events_max_age=timedelta(hours=2)))
    with pytest.raises(DependencyUnavailable, match="another process has just made the stream EVENTS"):
        await streams.ensure()
    assert streams.obstacle is None
    await streams.ensure()
    assert (await js.stream_info("EVENTS")).config.max_age == 7200
