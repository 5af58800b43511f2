"""Where the bot publishes each sandbox's events: in memory, for the event path."""

from __future__ import annotations

from nats.js import JetStreamContext

from sandbox_core.errors import StreamUnusable
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots, sandboxes
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_STREAM, sandbox_of, slot_subject

from .nats_lending import SlotLending


class SlotPlaces:
    """The slots of sandboxes; for the publisher what `LivingStreams` is where no sandbox has an account.

    A sandbox has the same slot from its creation to its end. One that is not known here, because it was just
    made, keeps its subject: nobody takes that, so the publisher calls `ensure` and sends again.
    """

    name = SLOT_STREAM
    obstacle: StreamUnusable | None = None

    def __init__(self, pool: Pool, lending: SlotLending, streams: SlotStreams) -> None:
        self._pool = pool
        self._lending = lending
        self._streams = streams
        self._slots: dict[str, int] = {}
        self._without: frozenset[str] = frozenset()
        self.changes = 0
        """Counted up with each reading."""
        self.ready = False
        """Whether the slots are known, and have their streams."""

    async def ensure(self) -> None:
        """Make the streams that are missing, and read the slots. Raises `DependencyUnavailable`."""
        self.ready = False
        try:
            await self._lending.restore()
        finally:
            # What is known of the slots counts also while the server is away.
            await self.look()
        self.ready = True

    async def look(self) -> None:
        """Read the slots, and which sandboxes need none. Raises `DependencyUnavailable`."""
        async with connected(self._pool) as connection:
            without = await sandboxes.without_credentials(connection)
            rows = await nats_slots.taken(connection)
        self._slots = {str(row.sandbox_id): row.slot for row in rows}
        self._without = frozenset(map(str, without)) - self._slots.keys()
        self.changes += 1

    def has(self, sandbox_id: str) -> bool | None:
        """Return whether the sandbox has a slot; None when that is not known."""
        if sandbox_id in self._slots:
            return True
        return False if sandbox_id in self._without else None

    def subject(self, subject: str) -> str:
        """Return where to publish for a subject of a sandbox's events: `slot.000.{id}.events.…`."""
        slot = self._slots.get(sandbox_of(subject) or "")
        return subject if slot is None else slot_subject(slot, subject)

    def jetstream(self, subject: str) -> JetStreamContext | None:
        """Return JetStream in the account of the subject's sandbox; None when it has none."""
        slot = self._slots.get(sandbox_of(subject) or "")
        return None if slot is None else self._streams.jetstream(slot)
