"""Whether the message that JetStream takes a publication for is that publication.

JetStream drops what has the id of a message that it stored lately, whoever published that. Nearly always it
was this bot, in an attempt whose answer was lost. But anybody who may publish to the stream can use the ids
of events to come. So the stored message is read: nobody can know an event's content before Discord sends it.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from sandbox_core.subjects import SLOT_STREAM

from .delivered import unpacked
from .placed import Places
from .publication import Publication

_log = structlog.get_logger("sandbox.nats")

_AT_ONCE = 32
_READ_WITHIN = 3.0
_APART = "~"


class Judged(Protocol):
    """What is done with a publication when the stored message was read, on the event loop."""

    def found(self, publication: Publication) -> None:
        """It is stored."""

    def id_taken(self, publication: Publication) -> None:
        """Another message is, and the publication has another id now."""

    def not_judged(self, publication: Publication) -> None:
        """The message could not be read."""


class Duplicates:
    """Reads stored messages with this client."""

    def __init__(self, client: Client, judged: Judged, places: Places | None = None) -> None:
        self._js = client.jetstream(timeout=_READ_WITHIN)
        self._judged = judged
        self._places = places
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._is_told = False

    async def judge(self, publication: Publication, sequence: int) -> None:
        """Find out whether the message at this place of the publication's stream is the publication."""
        try:
            if await self._is_stored(publication, sequence):
                self._judged.found(publication)
                return
            self._rename(publication)
            self._judged.id_taken(publication)
        except (nats.errors.Error, OSError) as error:
            _log.debug("duplicate_not_read", error=type(error).__name__)
            self._judged.not_judged(publication)
        except Exception:
            # Whatever it is: without another try its guild waits for ever.
            _log.exception("duplicate_not_judged", message_id=publication.message_id)
            self._judged.not_judged(publication)

    async def _is_stored(self, publication: Publication, sequence: int) -> bool:
        stream = publication.label.headers.get("Nats-Expected-Stream")
        if stream is None:
            # Nobody said where it belongs.
            return True
        js = self._js
        if self._places is not None:
            there = self._places.jetstream(publication.subject)
            if there is None:
                # Its sandbox has ended meanwhile, with everything that it had.
                return False
            js, stream = there, SLOT_STREAM
        async with self._few:
            try:
                found = await js.get_msg(stream, sequence)
            except NotFoundError:
                # Removed since. Then the stream has none of it, whosever it was.
                return False
        ours = unpacked(publication.payload, publication.label.headers)
        return unpacked(found.data or b"", found.headers or {}) == ours

    def _rename(self, publication: Publication) -> None:
        """Give the publication an id that nobody can know before."""
        if not self._is_told:
            _log.warning("message_id_taken", message_id=publication.message_id, subject=publication.subject)
        self._is_told = True
        publication.message_id = f"{own_id(publication.message_id)}{_APART}{secrets.token_hex(8)}"


def own_id(message_id: str) -> str:
    """The event's own id: without what was added because somebody else had used it."""
    return message_id.partition(_APART)[0]
