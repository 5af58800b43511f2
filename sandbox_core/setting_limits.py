"""The settings for what one sandbox may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from .setting_sources import Sources
from .setting_values import directory
from .stored import MIB, StorageLimit


class NatsLimitSettings(Sources):
    """What one sandbox may use of the sandboxes' NATS server, whose configuration says so."""

    sandbox_stream_mb: Annotated[int, Field(ge=16)] = 32
    """The memory of one sandbox's streams at SANDBOX_NATS_URL: five eighths are for events that wait, an
    eighth for dead letters. With more, the oldest go. `sandboxctl tenant-nats` writes it into the server's
    configuration. With `convention` all of it is for one stream at NATS_URL, which is made with it."""
    sandbox_stream_messages: Annotated[int, Field(ge=1000)] = 500_000
    """The most events in one sandbox's stream; with more, the oldest go. For sandboxes that are made from
    then on."""
    sandbox_stream_consumers: Annotated[int, Field(ge=1)] = 50
    """The most consumers of one sandbox, in the configuration as above."""
    sandbox_nats_connections: Annotated[int, Field(ge=1)] = 10
    """The most connections of one sandbox to the sandboxes' NATS server, in the configuration as above."""


class StorageLimitSettings(Sources):
    """What one sandbox may use of PostgreSQL and Redis."""

    sandbox_database_connections: Annotated[int, Field(ge=1)] = 20
    """The most connections of one sandbox to PostgreSQL at a time."""
    sandbox_database_statement_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60
    """How long a statement of a sandbox may take. A session can lift the server's own limit; the bot then
    ends the session, some seconds later."""
    sandbox_database_mb: Annotated[int, Field(ge=1)] = 256
    """The most megabytes of one sandbox in PostgreSQL, measured every 30 s. Its owner is told at 80 % and at
    100 %; from then until it is below 90 %, new sessions with its own login are read-only by default."""
    sandbox_database_all_mb: Annotated[int, Field(ge=1)] | None = None
    """The same of all sandboxes together. With more, no new sandbox is made."""
    sandbox_redis_mb: Annotated[int, Field(ge=1)] = 64
    """The most megabytes of one sandbox in Redis, measured every 30 s or, with many keys, as soon as that is
    done. Its owner is told at 80 % and at 100 %; from then until it is below 90 %, its own login may read and
    delete, and not write."""
    sandbox_redis_keys: Annotated[int, Field(ge=1)] = 500_000
    """The most keys of one sandbox, in the same way."""
    sandbox_redis_all_mb: Annotated[int, Field(ge=1)] | None = None
    """The most megabytes of all sandboxes together in Redis. With more, no new sandbox is made."""

    sandbox_recordings_mb: Annotated[int, Field(ge=1)] = 100
    """The most megabytes of one person's recordings together, compressed as they are on disk. With more, a
    recording ends."""
    sandbox_recordings_days: Annotated[float, Field(gt=0, le=3650)] = 30
    """How long a recording is kept from its end on."""
    sandbox_recordings_all_mb: Annotated[int, Field(ge=1)] = 1024
    """The most megabytes of all recordings together, on the disk of NATS_URL."""

    @property
    def database_limit(self) -> StorageLimit:
        """What sandboxes may store in PostgreSQL."""
        return StorageLimit(self.sandbox_database_mb * MIB, all_bytes=_bytes(self.sandbox_database_all_mb))

    @property
    def redis_limit(self) -> StorageLimit:
        """What sandboxes may store in Redis."""
        return StorageLimit(
            self.sandbox_redis_mb * MIB, self.sandbox_redis_keys, _bytes(self.sandbox_redis_all_mb)
        )


class TemplateSettings(Sources):
    """What new sandboxes may begin with."""

    sandbox_templates_dir: Annotated[Path | None, BeforeValidator(directory)] = None
    """A directory with templates: a new sandbox begins with `{name}.sql` there, plain SQL as pg_dump writes
    it. One named `default.sql` is for those who name none. Each process of the bot, and `sandboxctl`, reads
    its own."""
    sandbox_template_seconds: Annotated[int, Field(ge=1, le=60)] = 30
    """The longest time that a template may take, in seconds."""


def _bytes(megabytes: int | None) -> int | None:
    return None if megabytes is None else megabytes * MIB
