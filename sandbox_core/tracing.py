"""Traces with OpenTelemetry, if its API is installed (the extra `otel`) and its SDK is set up.

The core decides once, when it opens, whether there are traces. Without them no code of this module runs for
an event or a command. A command's span lasts from the interaction to the reply, an event's from the frame to
the ack. The NATS header `traceparent` (https://www.w3.org/TR/trace-context/) contains the event's context, so
a worker's trace continues it.
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
    """Creates spans. `monotonic` is the clock, in seconds, that dates the frames."""

    def __init__(self, provider: TracerProvider, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - only where `find_tracing` found it
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

        self._trace = trace
        self._tracer = provider.get_tracer(_NAME)
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._monotonic = monotonic

    @contextmanager
    def command(self, name: str, **attributes: str) -> Iterator[None]:
        """Put a span around a command; a refusal is an outcome of the command, no error of the program."""
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
        """Note that the command of the current span ended with this error code."""
        self._trace.get_current_span().set_attribute("error.type", code)

    def event(self, headers: dict[str, str], received_at: float) -> Span:
        """Start an event's span at the time its frame was read, and write its context into `headers`."""
        elapsed = self._monotonic() - received_at
        attributes = {"messaging.system": "nats", "discord.event": headers["Discord-Event"]}
        for header, attribute in (("Discord-Guild-Id", "discord.guild_id"), ("Sandbox-Id", "sandbox.id")):
            if header in headers:
                attributes[attribute] = headers[header]
        span = self._tracer.start_span(
            f"publish {headers['Discord-Event']}",
            # Not a child of the span of the task that publishes it.
            context=self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            kind=self._trace.SpanKind.PRODUCER,
            attributes=attributes,
            start_time=time.time_ns() - int(elapsed * 1e9),
        )
        self._propagator.inject(headers, context=self._trace.set_span_in_context(span))
        return span


def find_tracing() -> Tracing | None:
    """Return the traces of this process, or None when OpenTelemetry is not installed or not set up."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - the extra `otel`
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return Tracing(provider)
