"""Where the bot publishes each sandbox's events: in memory, for the event path."""

from __future__ import annotations

from sandbox_core.errors import StreamUnusable
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_STREAM, sandbox_of, slot_subject

from .nats_lending import SlotLending


class SlotPlaces:
    """The slots of sandboxes; for the publisher what `Streams` is where all sandboxes have one stream.

    A sandbox has the same slot from its creation to its end. One that is not known here, because it was just
    made, keeps its subject: nobody takes that, so the publisher calls `ensure` and sends again.
    """

    name = SLOT_STREAM
    obstacle: StreamUnusable | None = None

    def __init__(self, pool: Pool, lending: SlotLending) -> None:
        self._pool = pool
        self._lending = lending
        self._slots: dict[str, int] = {}
        self.ready = False
        """Whether the slots are known, and have their streams."""

    async def ensure(self) -> None:
        """Make the streams that are missing, and read the slots. Raises `DependencyUnavailable`."""
        self.ready = False
        try:
            await self._lending.restore()
        finally:
            # What is known of the slots counts also while the server is away.
            await self._read()
        self.ready = True

    async def _read(self) -> None:
        async with connected(self._pool) as connection:
            rows = await nats_slots.taken(connection)
        self._slots = {str(row.sandbox_id): row.slot for row in rows}

    def subject(self, subject: str) -> str:
        """Return where to publish for a subject of a sandbox's events: `slot.000.{id}.events.…`."""
        slot = self._slots.get(sandbox_of(subject) or "")
        return subject if slot is None else slot_subject(slot, subject)
