"""Where events are: a sandbox's in a stream of its own, in its account or by convention, or production's."""

from __future__ import annotations

from uuid import UUID

from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.errors import DEPENDENCY
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_STREAM, StreamNames, sandbox_events, slot_api


class StreamPlaces:
    """Finds the streams of sandboxes; a sandbox has the same one from its creation to its end."""

    def __init__(
        self,
        pool: Pool,
        tenant: NatsConnection | None,
        shared: NatsConnection,
        production: NatsConnection,
        names: StreamNames,
    ) -> None:
        """`tenant` is the bot's connection to the server with an account for each sandbox.

        `shared` is to the server of all other sandboxes' streams, `production` to that of production's.
        """
        self._pool = pool
        self._tenant = tenant
        self._shared = shared
        self._production = production
        self._names = names
        self._known: dict[UUID, StreamPlace] = {}

    async def of(self, sandbox_id: UUID, *, credentials: int) -> StreamPlace:
        """Return where the sandbox's events are, or production's. Raises `DependencyUnavailable`."""
        if sandbox_id == PRODUCTION:
            return self._of_production()
        known = self._known.get(sandbox_id)
        if known is None:
            known = self._known[sandbox_id] = await self._find(sandbox_id, credentials)
        return known

    def forget(self, sandbox_id: UUID) -> None:
        """The sandbox has ended."""
        self._known.pop(sandbox_id, None)

    def _of_production(self) -> StreamPlace:
        names = self._names
        js = self._production.client.jetstream()
        # All of it is read, so that a gap is seen. What can't be attributed, or published, is no event.
        everything, events = names.events_subjects, names.production_events
        return StreamPlace(self._production, js, "$JS.API", names.events, events, True, everything)

    async def _find(self, sandbox_id: UUID, credentials: int) -> StreamPlace:
        events = sandbox_events(sandbox_id)
        if not credentials:
            js = self._shared.client.jetstream()
            stream = self._names.sandbox_stream(sandbox_id)
            # Its dead letters are in it, too.
            return StreamPlace(self._shared, js, "$JS.API", stream, events, own=False)
        if self._tenant is None:
            raise DependencyUnavailable(
                DEPENDENCY, "SANDBOX_NATS_URL is not set, where the sandbox's events are"
            )
        async with connected(self._pool) as connection:
            row = await nats_slots.of_sandbox(connection, sandbox_id)
        if row is None:
            raise DependencyUnavailable(DEPENDENCY, "the sandbox has no account yet")
        js = SlotStreams(self._tenant).jetstream(row.slot)
        return StreamPlace(self._tenant, js, slot_api(row.slot), SLOT_STREAM, events, own=True)
