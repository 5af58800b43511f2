"""Traces through OpenTelemetry, where its API is installed (the extra `otel`) and its SDK is set up.

Whether there are traces is decided once, when the core opens: without them no code of this module runs for
an event or a command. A command's span goes from the interaction to the reply, an event's from the frame to
the acknowledgement; the event's context travels in the NATS header `traceparent`
(https://www.w3.org/TR/trace-context/), so that a worker's trace continues it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import SandboxError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

_NAME = "discord-server-sandboxes"


class Tracing:
    """Makes the spans. `monotonic` is the clock, in seconds, that frames were read by."""

    def __init__(self, provider: TracerProvider, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - only where `find_tracing` found it
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

        self._trace = trace
        self._tracer = provider.get_tracer(_NAME)
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._monotonic = monotonic

    @contextmanager
    def command(self, name: str, **attributes: str) -> Iterator[None]:
        """A span around a command; a refusal is its outcome and no error of the program."""
        kind = self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except SandboxError as error:
                span.set_attribute("error.type", error.code)
                raise
            except Exception as error:
                span.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
                raise

    def refused(self, code: str) -> None:
        """The command of the current span ended with this error code."""
        self._trace.get_current_span().set_attribute("error.type", code)

    def event(self, headers: dict[str, str], received_at: float) -> Span:
        """Begin an event's span at the moment its frame was read, and write its context into `headers`."""
        elapsed = self._monotonic() - received_at
        attributes = {"messaging.system": "nats", "discord.event": headers["Discord-Event"]}
        for header, attribute in (("Discord-Guild-Id", "discord.guild_id"), ("Sandbox-Id", "sandbox.id")):
            if header in headers:
                attributes[attribute] = headers[header]
        span = self._tracer.start_span(
            f"publish {headers['Discord-Event']}",
            # Not a child of whatever task happens to publish it.
            context=self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            kind=self._trace.SpanKind.PRODUCER,
            attributes=attributes,
            start_time=time.time_ns() - int(elapsed * 1e9),
        )
        self._propagator.inject(headers, context=self._trace.set_span_in_context(span))
        return span


def find_tracing() -> Tracing | None:
    """The traces of this process, or None where OpenTelemetry is absent or nobody set it up."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - the extra `otel`
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return Tracing(provider)
