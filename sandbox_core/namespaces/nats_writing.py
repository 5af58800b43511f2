"""Puts events into a sandbox's stream: in its account, or by convention beside others."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from nats.errors import MaxPayloadError
from nats.js import JetStreamContext
from nats.js.errors import NoStreamResponseError

from sandbox_core.errors import DependencyUnavailable, DoesNotFit
from sandbox_core.nats.errors import DEPENDENCY, translating
from sandbox_core.nats.sandbox_streams import SandboxStreams
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.nats.too_large import HEADER_ROOM
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_STREAM, sandbox_subject, slot_subject

_LEVEL = 6


@dataclass(frozen=True, slots=True)
class SandboxStream:
    """One sandbox's stream."""

    sandbox_id: UUID
    js: JetStreamContext
    name: str
    slot: int | None

    async def write(self, event_type: str, payload: bytes, headers: Mapping[str, str]) -> int:
        """Store an event, compressed if it is large, and return its number in the stream.

        Raises `DependencyUnavailable`, also when the stream is missing: nothing is made here. Raises
        `DoesNotFit` for what the server does not take.
        """
        subject = sandbox_subject(self.sandbox_id, event_type)
        if self.slot is not None:
            subject = slot_subject(self.slot, subject)
        if len(payload) + HEADER_ROOM > self.js._nc.max_payload:
            # As the gateway's own. A frame of megabytes takes long enough that the loop should not wait.
            payload = await asyncio.to_thread(gzip.compress, payload, _LEVEL)
            headers = {**headers, "Content-Encoding": "gzip"}
        with translating():
            try:
                stored = await self.js.publish(subject, payload, stream=self.name, headers=dict(headers))
            except NoStreamResponseError:
                reason = "the sandbox's stream is missing, and is made again with Discord's next event"
                raise DependencyUnavailable(DEPENDENCY, reason) from None
            except MaxPayloadError:
                problem = f"it has {len(payload):,} bytes, too many for the sandboxes' NATS server"
                raise DoesNotFit("The event", problem, "Make it smaller.") from None
        return stored.seq


class SandboxWriting:
    """Finds sandboxes' streams.

    `slots` has the streams of sandboxes with an account of their own, `here` those of the others.
    """

    def __init__(self, pool: Pool, slots: SlotStreams | None, here: SandboxStreams) -> None:
        self._pool = pool
        self._slots = slots
        self._here = here

    async def stream(self, sandbox_id: UUID) -> SandboxStream:
        """Return the sandbox's stream. Raises `DependencyUnavailable`."""
        if self._slots is not None:
            async with connected(self._pool) as connection:
                row = await nats_slots.of_sandbox(connection, sandbox_id)
            if row is not None:
                return SandboxStream(sandbox_id, self._slots.jetstream(row.slot), SLOT_STREAM, row.slot)
        return SandboxStream(
            sandbox_id, self._here.js, self._here.limits.names.sandbox_stream(sandbox_id), None
        )
