"""Traces: one from Discord to the worker for each event, one for each command, none where nobody asked."""

from __future__ import annotations

import re
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sandbox_core.tracing import Tracing, find_tracing
from tests.e2e.conftest import StartLive
from tests.e2e.harness import Live, eventually, of_types

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]")


class Collected:
    """A provider of the SDK, as an operator would set one up, and the spans it was given."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans with this name that have ended."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Collected:
    spans = Collected()
    # The real one can be set only once in a process.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: spans.provider)
    return spans


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


async def test_an_event_is_one_trace_from_its_frame_to_the_worker(
    collected: Collected, start_live: StartLive
) -> None:
    live = await start_live()
    sandbox_id, guild = await live.mapped()
    live.sim.message(guild, content="hello")
    # Not `checked`: it takes any header more for a fault.
    stored = await live.stored()
    # The other messages are the bot's answers in the dev guild.
    (event,) = [each for each in of_types(stored, "MESSAGE_CREATE") if each.stream == "SANDBOX"]
    (span,) = [
        each
        for each in collected.named("publish MESSAGE_CREATE")
        if each.attributes is not None and "sandbox.id" in each.attributes
    ]
    assert _TRACEPARENT.fullmatch(event.headers["traceparent"])
    assert event.headers["traceparent"].split("-")[1] == trace_id(span)
    assert span.kind is SpanKind.PRODUCER
    assert span.parent is None
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time < span.end_time
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "messaging.system": "nats",
        "discord.event": "MESSAGE_CREATE",
        "discord.guild_id": str(guild.id),
        "sandbox.id": sandbox_id,
    }
    # What a worker does with the header.
    context = TraceContextTextMapPropagator().extract(event.headers)
    with collected.provider.get_tracer("worker").start_as_current_span("handle", context=context):
        pass
    (handled,) = collected.named("handle")
    assert handled.parent is not None
    assert span.context is not None
    assert (trace_id(handled), handled.parent.span_id) == (trace_id(span), span.context.span_id)
    assert len({event.headers["traceparent"] for event in stored}) == len(stored)


async def test_a_command_is_a_span_until_its_reply(collected: Collected, start_live: StartLive) -> None:
    live = await start_live()
    await live.create("box")
    refused = await live.slash("create", name="box")
    assert "SANDBOX_001" in refused.text
    # The answer is read as soon as Discord has it, which is before the bot hears that Discord has it.
    await eventually(lambda: len(collected.named("sandbox create")) == 2)
    done, failed = collected.named("sandbox create")
    assert done.kind is SpanKind.SERVER
    assert done.attributes is not None
    assert done.attributes["user_id"] == str(live.alice.id)
    assert "error.type" not in done.attributes
    assert failed.attributes is not None
    assert failed.attributes["correlation_id"] == str(refused.interaction.id)
    assert failed.attributes["error.type"] == "SANDBOX_001"
    # A refusal is an answer, not a fault.
    assert failed.status.status_code is StatusCode.UNSET


def test_a_fault_is_an_error_of_the_span(collected: Collected) -> None:
    tracing = Tracing(collected.provider)
    with pytest.raises(RuntimeError), tracing.command("sandbox create"):
        raise RuntimeError("with a secret in its text")
    (span,) = collected.named("sandbox create")
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in span.to_json()


async def test_without_a_provider_an_event_passes_nothing_of_it(live: Live) -> None:
    core = live.run.bot.sandbox_core
    assert core.tracing is None
    assert core.router._publisher is core.publisher
    assert core.publisher.events is core.router
    live.sim.message(live.guilds[0], content="hello")
    # `checked` takes any header more for a fault.
    assert of_types(await live.checked(), "MESSAGE_CREATE")


def test_without_the_extra_there_are_no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert find_tracing() is None


def test_without_a_provider_there_are_no_traces() -> None:
    assert find_tracing() is None
