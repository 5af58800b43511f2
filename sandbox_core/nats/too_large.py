"""What does not fit: compressed, and when that is not enough, only told of."""

from __future__ import annotations

import asyncio
import gzip

import structlog

from sandbox_core.subjects import StreamNames

from .publication import Publication

_log = structlog.get_logger("sandbox.nats")

HEADER_ROOM = 1024
"""Bytes left for the headers below the server's `max_payload`, which counts them too."""
_TOO_LARGE = "TOO_LARGE"
_LEVEL = 6


async def compress(publication: Publication) -> None:
    """Compress the payload, once. Raises whatever hinders it, such as no memory just now."""
    if "Content-Encoding" in publication.label.headers:
        return
    # A multi-megabyte frame takes long enough to compress that the loop should not wait for it.
    publication.payload = await asyncio.to_thread(gzip.compress, publication.payload, _LEVEL)
    publication.label_anew(publication.subject, {**publication.label.headers, "Content-Encoding": "gzip"})


def make_dead_letter(publication: Publication, names: StreamNames) -> None:
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
