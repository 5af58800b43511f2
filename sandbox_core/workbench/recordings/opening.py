"""Makes what recordings need of an open core."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sandbox_core.clients import jetstream
from sandbox_core.manager import SandboxManager
from sandbox_core.namespaces.stream_places import StreamPlaces
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.recordings import RecordingStream
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.postgres.pool import Pool
from sandbox_core.settings import Settings
from sandbox_core.stored import MIB

from .library import Recordings
from .recorder import Recorder


@dataclass(frozen=True, slots=True)
class RecordingSide:
    """Recordings, for whoever asks, and for the process that records."""

    library: Recordings
    recorder: Recorder


def open_recordings(
    settings: Settings,
    pool: Pool,
    manager: SandboxManager,
    nats: NatsConnection,
    *,
    places: StreamPlaces,
    process: str,
) -> RecordingSide:
    """Return both, without a request. `nats` is to production's server, `process` names this process."""
    stream = RecordingStream(
        nats,
        jetstream(nats),
        settings.stream_names,
        replicas=settings.nats_replicas,
        most_bytes=settings.sandbox_recordings_all_mb * MIB,
    )

    async def place(sandbox_id: UUID, credentials: int) -> StreamPlace:
        return await places.of(sandbox_id, credentials=credentials)

    owners_bytes = settings.sandbox_recordings_mb * MIB
    library = Recordings(
        pool,
        manager,
        stream,
        place,
        owners_bytes=owners_bytes,
        kept_for=timedelta(days=settings.sandbox_recordings_days),
    )
    return RecordingSide(library, Recorder(pool, stream, place, process=process, owners_bytes=owners_bytes))
