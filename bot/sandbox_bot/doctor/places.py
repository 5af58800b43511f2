"""Where a server is and who logs in there, for sentences and statements."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """Nothing of it is a secret."""

    where: str
    """Hosts with their ports."""
    user: str
    """Empty where nobody is named."""
    database: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the servers are that the settings name."""

    postgres: Place
    redis: Place
    nats: Place

    @classmethod
    def of(cls, settings: Settings) -> Places:
        """Those of these settings."""
        postgres, redis, nats = settings.database, settings.redis, settings.nats
        return cls(
            # As libpq does, without a database's name it is the user's.
            Place(postgres.where, postgres.who, postgres.database or postgres.who),
            Place(redis.where, redis.who, str(redis.database)),
            Place(nats.where, nats.user or ""),
        )
