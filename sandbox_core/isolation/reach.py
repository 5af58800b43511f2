"""The addresses with a sandbox's own logins as they can be reached from here.

What `connect` shows is for workers, which may be on another network than this process. Where it leads nowhere
from here, the same logins are used at the addresses that the bot itself has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import SecretStr

from sandbox_core.addresses import Endpoint, NatsAddress, PostgresAddress, RedisAddress
from sandbox_core.settings import Settings

_WITHIN = 2.0


class _Address(Protocol):
    @property
    def user(self) -> str | None: ...

    @property
    def password(self) -> SecretStr | None: ...

    def url_of(self, user: str, password: str) -> str: ...


async def from_here(settings: Settings, logins: Mapping[str, str]) -> dict[str, str]:
    """Return the variables `DATABASE_URL`, `REDIS_URL` and `NATS_URL` with addresses that answer here."""
    database = PostgresAddress.parse(logins["DATABASE_URL"])
    redis = RedisAddress.parse(logins["REDIS_URL"])
    nats = NatsAddress.parse(logins["NATS_URL"])
    rows: Sequence[tuple[str, _Address, Sequence[Endpoint], _Address | None]] = (
        ("DATABASE_URL", database, database.endpoints, settings.tenant_database),
        ("REDIS_URL", redis, [redis.endpoint], settings.tenant_redis),
        ("NATS_URL", nats, nats.endpoints, settings.tenant_nats),
    )
    answers = await asyncio.gather(*(_answers(endpoints) for _, _, endpoints, _ in rows))
    chosen = dict(logins)
    for (variable, shown, _, bots), answered in zip(rows, answers, strict=True):
        if not answered and bots is not None and shown.user and shown.password:
            chosen[variable] = bots.url_of(shown.user, shown.password.get_secret_value())
    return chosen


async def _answers(endpoints: Sequence[Endpoint]) -> bool:
    """Return whether something listens at one of them."""
    for each in endpoints:
        if each.is_socket:
            return True
        try:
            async with asyncio.timeout(_WITHIN):
                _, writer = await asyncio.open_connection(each.host, each.port or 5432)
        except (OSError, TimeoutError):
            continue
        writer.close()
        return True
    return False
