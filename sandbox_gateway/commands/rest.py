"""Discord's requests for a server's commands, within a sandbox's share or nobody's in particular."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.guild_commands import Answer, Json
from sandbox_gateway.share import UPKEEP, ShareUsed
from sandbox_gateway.upstream import Upstream, UpstreamAnswer

_HEADERS = {"Content-Type": "application/json"}


class ApplicationId:
    """The id of the bot's application: asked once, and again until Discord has answered."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known = ""

    async def get(self) -> str:
        """Return it. Raises what `Upstream.request` raises, and `DependencyUnavailable`."""
        if not self._known:
            answer = await self._upstream.request("GET", "/applications/@me", sandbox_id=UPKEEP)
            found = answer.json() if answer.status == 200 else None
            if not isinstance(found, dict) or "id" not in found:
                raise DependencyUnavailable("Discord", "it does not say which application the bot's is")
            self._known = str(found["id"])
        return self._known


class UpstreamCommands:
    """`GuildCommandsRest` over the guard's client; waits for its turn for `patience` seconds.

    Raises what `Upstream.request` raises.
    """

    def __init__(
        self,
        upstream: Upstream,
        application: ApplicationId,
        *,
        sandbox_id: UUID = UPKEEP,
        patience: float = 5.0,
    ) -> None:
        self._upstream = upstream
        self._application = application
        self._sandbox_id = sandbox_id
        self._patience = patience

    async def list(self, guild_id: str) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("GET", guild_id, query="with_localizations=true")

    async def replace(self, guild_id: str, bodies: Sequence[Json]) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("PUT", guild_id, body=list(bodies))

    async def create(self, guild_id: str, body: Json) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("POST", guild_id, body=body)

    async def delete(self, guild_id: str, command_id: str) -> Answer:
        """See `GuildCommandsRest`."""
        return await self._ask("DELETE", guild_id, f"/{command_id}")

    async def permissions(self, guild_id: str, command_id: str = "") -> Answer:
        """Return the permissions of one command, or of all."""
        return await self._ask("GET", guild_id, f"{command_id and '/'}{command_id}/permissions")

    async def _ask(
        self, method: str, guild_id: str, rest: str = "", *, query: str = "", body: Any = None
    ) -> Answer:
        path = f"/applications/{await self._application.get()}/guilds/{guild_id}/commands{rest}"
        data = None if body is None else json.dumps(body).encode()
        answer = await self._patiently(method, path, query, data)
        return Answer(answer.status, answer.json(), answer)

    async def _patiently(self, method: str, path: str, query: str, data: bytes | None) -> UpstreamAnswer:
        end = time.monotonic() + self._patience
        while True:
            try:
                return await self._upstream.request(
                    method,
                    path,
                    sandbox_id=self._sandbox_id,
                    query=query,
                    body=data,
                    headers=None if data is None else _HEADERS,
                )
            except ShareUsed as used:
                if time.monotonic() + used.retry_after > end:
                    raise
                await asyncio.sleep(used.retry_after)
