"""Who the bot is: asked once, again until Discord has answered, and where that may have changed."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sandbox_core.errors import DependencyUnavailable

from .guilds.asking import Asking
from .sessions.service import Bot


class BotIdentity:
    """The bot's account and application, as Discord says."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._known: Bot | None = None
        self._turn = asyncio.Lock()

    async def get(self, sandbox_id: UUID, *, anew: bool = False) -> Bot:
        """See `Bots`."""
        known = None if anew else self._known
        if known is None:
            async with self._turn:
                if self._known is None or anew:
                    self._known = await self._ask(sandbox_id)
                known = self._known
        return known

    async def user_id(self, sandbox_id: UUID) -> str:
        """Return the id of the bot's account. Raises `DependencyUnavailable`."""
        return (await self.get(sandbox_id)).user_id

    async def _ask(self, sandbox_id: UUID) -> Bot:
        user = await self._asking.get("/users/@me", sandbox_id)
        application = await self._asking.get("/applications/@me", sandbox_id)
        if user is None or application is None:
            raise DependencyUnavailable("Discord", "it does not say who the bot is")
        return Bot(user, str(application["id"]), int(application.get("flags") or 0))
