"""What Discord answers to every sandbox alike, kept for a minute, and who the bot is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sandbox_gateway.upstream import Upstream, UpstreamAnswer

from .answers import unavailable

_APPLICATION, _OWN_USER = "/oauth2/applications/@me", "/users/@me"
_SECONDS = 60.0
_MOST = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the bot is at Discord."""

    application_id: str
    user_id: str


class Common:
    """Asks for all, once in a minute."""

    def __init__(self, upstream: Upstream, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` is in seconds."""
        self._upstream = upstream
        self._monotonic = monotonic
        self._kept: dict[tuple[int, str], tuple[float, UpstreamAnswer]] = {}
        self._identity: Identity | None = None

    async def get(self, path: str, *, sandbox_id: UUID, version: int = 10) -> UpstreamAnswer:
        """Return the answer to GET of this path; only one with the status 200 is kept."""
        key = (version, path)
        if found := self._fresh(key):
            return found
        answer = await self._upstream.request("GET", path, sandbox_id=sandbox_id, version=version)
        if answer.status == 200:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[key] = (self._monotonic() + _SECONDS, answer)
        return answer

    def _fresh(self, key: tuple[int, str]) -> UpstreamAnswer | None:
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] > self._monotonic() else None

    async def identity(self, *, sandbox_id: UUID) -> Identity:
        """Return who the bot is; it never changes. Raises `Refusal` when Discord does not say."""
        if self._identity is None:
            application = await self.get(_APPLICATION, sandbox_id=sandbox_id)
            user = await self.get(_OWN_USER, sandbox_id=sandbox_id)
            ids = [_id_in(answer) for answer in (application, user)]
            if None in ids:
                raise unavailable("identity_not_told")
            self._identity = Identity(str(ids[0]), str(ids[1]))
        return self._identity


def _id_in(answer: UpstreamAnswer) -> str | None:
    found = answer.json() if answer.status == 200 else None
    return found.get("id") if isinstance(found, dict) else None
