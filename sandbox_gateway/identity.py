"""Who the bot is: asked once, and again until Discord has answered."""

from __future__ import annotations

import asyncio

from sandbox_core.errors import DependencyUnavailable

from .guilds.asking import Asking
from .sessions.service import Bot


class BotIdentity:
    """The bot's account and application, as Discord says."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._known: Bot | None = None
        self._turn = asyncio.Lock()

    async def get(self) -> Bot:
        """Return who it is. Raises `DependencyUnavailable`."""
        if self._known is None:
            async with self._turn:
                if self._known is None:
                    self._known = await self._ask()
        return self._known

    async def user_id(self) -> str:
        """Return the id of the bot's account. Raises `DependencyUnavailable`."""
        return (await self.get()).user_id

    async def _ask(self) -> Bot:
        user = await self._asking.get("/users/@me")
        application = await self._asking.get("/applications/@me")
        if user is None or application is None:
            raise DependencyUnavailable("Discord", "it does not say who the bot is")
        return Bot(user, str(application["id"]), int(application.get("flags") or 0))
