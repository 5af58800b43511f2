"""Which servers a client's session begins with: a sandbox's are known, production's are asked for."""

from __future__ import annotations

from typing import Any

from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.production import MOST_SERVERS

from ..tenants import Holder, Tenant
from .asking import Asking

_PAGE = 200


class TooManyServers(Exception):
    """The bot is in more servers than production's side is built for; the text says so."""

    def __init__(self) -> None:
        super().__init__(f"the bot is in more than {MOST_SERVERS} servers, the most for production here")


class GuildLists:
    """Lists servers, as Discord says after the question."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def at_beginning(self, holder: Holder) -> list[str]:
        """Return the servers in order. Raises `TooManyServers` and `DependencyUnavailable`.

        All of the bot's count, also those of sandboxes: they may come back at any time.
        """
        if isinstance(holder, Tenant):
            return sorted(holder.guild_ids)
        found = await self._all()
        if len(found) > MOST_SERVERS:
            raise TooManyServers
        return sorted(each for each in found if each in holder.guild_ids)

    async def now(self, holder: Holder) -> list[str]:
        """Return the same, however many. Raises `DependencyUnavailable`."""
        if isinstance(holder, Tenant):
            return sorted(holder.guild_ids)
        return sorted(each for each in await self._all() if each in holder.guild_ids)

    async def _all(self) -> list[str]:
        guild_ids: list[str] = []
        after = "0"
        while True:
            page: Any = await self._asking.get("/users/@me/guilds", PRODUCTION, limit=str(_PAGE), after=after)
            if page is None:
                raise DependencyUnavailable("Discord", "it does not say in which servers the bot is")
            guild_ids += [str(each["id"]) for each in page]
            if len(page) < _PAGE:
                return guild_ids
            after = max(guild_ids, key=int)
