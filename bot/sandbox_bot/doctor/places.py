"""The address of a server and the user who logs in, for texts and statements."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """The address of one server; it contains no secrets."""

    where: str
    """Hosts with their ports."""
    user: str
    """Empty when the address names no user."""
    database: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """The addresses of the servers in the settings."""

    postgres: Place
    redis: Place
    nats: Place
    sandbox_nats: Place

    @classmethod
    def of(cls, settings: Settings) -> Places:
        """Read the addresses from the settings."""
        postgres, redis = settings.database, settings.redis
        nats, sandbox_nats = settings.nats, settings.sandbox_nats
        return cls(
            # As in libpq, the default for the database's name is the user's name.
            Place(postgres.where, postgres.who, postgres.database or postgres.who),
            Place(redis.where, redis.who, str(redis.database)),
            Place(nats.where, nats.user or ""),
            Place(sandbox_nats.where, sandbox_nats.user or ""),
        )
