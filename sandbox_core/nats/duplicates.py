"""Whether the message that JetStream takes a publication for is that publication.

JetStream drops what has the id of a message that it stored lately, whoever published that. Nearly always it
was this bot, in an attempt whose answer was lost. But anybody who may publish to the stream can use the ids of
events to come. So the stored message is read: nobody can know an event's content before Discord sends it.
"""

from __future__ import annotations

import asyncio
import secrets

import structlog
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from .delivered import unpacked
from .publication import Publication

_log = structlog.get_logger("sandbox.nats")

_AT_ONCE = 32
_APART = "~"


class Duplicates:
    """Reads stored messages; `js` limits each request by its timeout."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._is_told = False

    async def is_stored(self, publication: Publication, stream: str, sequence: int) -> bool:
        """Whether the stream's message at this place is the event. Raises nats-py's errors."""
        async with self._few:
            try:
                found = await self._js.get_msg(stream, sequence)
            except NotFoundError:
                # Removed since. Then there is none of it in the stream, whosever it was.
                return False
        return unpacked(found.data or b"", found.headers or {}) == unpacked(
            publication.payload, publication.label.headers
        )

    def rename(self, publication: Publication) -> None:
        """Give the publication an id that nobody can know before."""
        if not self._is_told:
            _log.warning("message_id_taken", message_id=publication.message_id, subject=publication.subject)
        self._is_told = True
        publication.message_id = f"{own_id(publication.message_id)}{_APART}{secrets.token_hex(8)}"


def own_id(message_id: str) -> str:
    """The event's own id: without what was added because somebody else had used it."""
    return message_id.partition(_APART)[0]
