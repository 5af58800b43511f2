"""What does not fit: compressed, and when that is not enough, only told of."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Protocol

import structlog

from sandbox_core.subjects import StreamNames

from .connection import NatsConnection
from .gate import Gate
from .publication import Publication, PublisherEvents

_log = structlog.get_logger("sandbox.nats")

HEADER_ROOM = 1024
"""Bytes left for the headers below the server's `max_payload`, which counts them too."""
_TOO_LARGE = "TOO_LARGE"
_LEVEL = 6
_FAILED_PAUSE = 1.0
_LIMIT_HOLDS = 10.0
"""How long the server's `max_payload` counts as known: it can change, and only a new connection tells."""


class Sends(Protocol):
    """The publisher, as far as this needs it."""

    @property
    def events(self) -> PublisherEvents: ...

    def queue(self, publication: Publication) -> None: ...

    def retry_later(self, publication: Publication, pause: float) -> None: ...


class TooLarge:
    """Makes publications fit, or dead letters. `monotonic` is the clock in seconds."""

    def __init__(
        self,
        connection: NatsConnection,
        publisher: Sends,
        gate: Gate,
        names: StreamNames,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = connection.client
        self._publisher = publisher
        self._gate = gate
        self._names = names
        self._monotonic = monotonic
        self._limit_known_at = 0.0

    def limit_is_known(self) -> None:
        """The server has just told its limit."""
        self._limit_known_at = self._monotonic()

    async def shrink(self, publication: Publication) -> None:
        """Compress it, and send it if it fits then."""
        try:
            await _compress(publication)
        except Exception:
            # Whatever it is, such as no memory just now: without another try its guild waits for ever.
            _log.exception("publication_not_compressed", bytes=len(publication.payload))
            self._publisher.retry_later(publication, _FAILED_PAUSE)
            return
        if len(publication.payload) + HEADER_ROOM > self._client.max_payload:
            if self._monotonic() - self._limit_known_at > _LIMIT_HOLDS:
                # Whoever has reloaded the server with a higher limit since has told nobody.
                self._gate.shut()
                await self._client.connect_anew()
            else:
                self.to_dead_letter(publication)
        self._publisher.queue(publication)

    def to_dead_letter(self, publication: Publication) -> None:
        """Only tell of it."""
        self._publisher.events.attempt_failed("dead_letter")
        _make_dead_letter(publication, self._names)


async def _compress(publication: Publication) -> None:
    """Compress the payload, once. Raises whatever hinders it, such as no memory just now."""
    if "Content-Encoding" in publication.label.headers:
        return
    # A multi-megabyte frame takes long enough to compress that the loop should not wait for it.
    publication.payload = await asyncio.to_thread(gzip.compress, publication.payload, _LEVEL)
    publication.label_anew(publication.subject, {**publication.label.headers, "Content-Encoding": "gzip"})


def _make_dead_letter(publication: Publication, names: StreamNames) -> None:
    """Turn it into a dead letter: its headers tell what it was, its payload is left out."""
    _log.error(
        "event_dead_lettered",
        reason=_TOO_LARGE,
        subject=publication.subject,
        bytes=len(publication.payload),
        message_id=publication.message_id,
    )
    headers = {
        **publication.label.headers,
        "Dead-Letter-Subject": publication.subject,
        "Dead-Letter-Bytes": str(len(publication.payload)),
        "Nats-Expected-Stream": names.events,
    }
    headers.pop("Content-Encoding", None)
    publication.is_dead_letter = True
    publication.label_anew(names.dead_letter_subject(_TOO_LARGE), headers)
    publication.payload = b""
