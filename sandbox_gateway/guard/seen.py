"""The tokens of interactions that sandboxes' events had, in the control plane's Redis.

Libraries answer an interaction without their own token: its id and token say who they are. Redis has hashes
only, so that nobody who reads there can answer in a sandbox's name.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID

from sandbox_core import subjects
from sandbox_core.redis.errors import translating
from sandbox_gateway.tenants import Holder, Tenant

from .ports import SeenKind

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SECONDS: dict[SeenKind, int] = {"interaction": 15 * 60, "webhook": 24 * 3600}
"""An interaction's token is valid for 15 minutes."""
_ANYWHERE = "-"


class RedisSeen:
    """Writes and reads them; see `Seen`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(
        self, tenant: Holder, kind: SeenKind, entity_id: str, token: str, *, guild_id: str | None = None
    ) -> None:
        """See `Seen`."""
        value = f"{tenant.sandbox_id} {_digest(entity_id)} {guild_id or _ANYWHERE}"
        with translating():
            await self._redis.set(subjects.seen_token_key(kind, _digest(token)), value, ex=_SECONDS[kind])

    async def has(self, tenant: Tenant, kind: SeenKind, entity_id: str | None, token: str) -> bool:
        """See `Seen`."""
        found = await self._find(kind, entity_id, token)
        if found is None:
            return False
        sandbox_id, guild_id = found
        return sandbox_id == tenant.sandbox_id and guild_id in {_ANYWHERE, *tenant.guild_ids}

    async def whose(self, kind: SeenKind, entity_id: str | None, token: str) -> UUID | None:
        """See `Seen`."""
        found = await self._find(kind, entity_id, token)
        return None if found is None else found[0]

    async def _find(self, kind: SeenKind, entity_id: str | None, token: str) -> tuple[UUID, str] | None:
        with translating():
            value = await self._redis.get(subjects.seen_token_key(kind, _digest(token)))
        if value is None:
            return None
        sandbox_id, id_digest, guild_id = str(value).split(" ")
        if entity_id is not None and id_digest != _digest(entity_id):
            return None
        return UUID(sandbox_id), guild_id


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
