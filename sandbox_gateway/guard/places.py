"""Finds the guild of a channel, a webhook, an invite or a template: from what is known, else from Discord.

Neither a channel nor a webhook ever moves to another guild, so what was found once stays true. What was not
found is kept for seconds only. A code can be given to another guild, so Discord is asked each time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import Any
from uuid import UUID

from sandbox_gateway.upstream import Upstream, UpstreamAnswer

from .answers import limited, unavailable
from .paths import is_snowflake

_MOST = 200_000
_MOST_UNKNOWN = 10_000
_UNKNOWN_FOR = 5.0
_LIST_FROM = 3
"""From so many unknown channels on, the guild's list of channels is asked for first."""


class Places:
    """Asks Discord on a sandbox's behalf, within its share; each question once at a time.

    Every method raises `Refusal` when Discord does not say, and what `Upstream.request` raises.
    """

    def __init__(self, upstream: Upstream, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` is in seconds."""
        self._upstream = upstream
        self._monotonic = monotonic
        self._known: OrderedDict[str, str] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        # By sandbox too: when one has used its share, another one's question is not refused with it.
        self._asked: dict[tuple[UUID, str], asyncio.Task[str | None]] = {}

    def learn(self, guild_id: str, channel_ids: Iterable[str]) -> None:
        """Take it that these are channels of the guild. Only for what Discord's REST API has said.

        Events are no source: where sandboxes are kept apart by convention, a worker could publish some.
        """
        for channel_id in channel_ids:
            self._keep(channel_id, guild_id)

    async def guild_of_channel(self, channel_id: str, *, sandbox_id: UUID) -> str | None:
        """Return the guild of a channel or thread; None when it has none, or the bot can't see it."""

        async def ask() -> str | None:
            answer = await self._get(f"/channels/{channel_id}", sandbox_id)
            return _guild_of(answer, channel_id)

        return await self._find(channel_id, sandbox_id, ask)

    async def prepare(self, channel_ids: Iterable[str], guild_id: str, *, sandbox_id: UUID) -> None:
        """Ask for the guild's list of channels where many of these are not known."""
        unknown = [each for each in channel_ids if each not in self._known]
        if len(unknown) < _LIST_FROM:
            return
        answer = await self._get(f"/guilds/{guild_id}/channels", sandbox_id)
        channels = answer.json() if answer.status == 200 else None
        if isinstance(channels, list):
            self.learn(
                guild_id, [each["id"] for each in channels if each.get("guild_id", guild_id) == guild_id]
            )

    async def guild_of_webhook(self, webhook_id: str, token: str | None, *, sandbox_id: UUID) -> str | None:
        """Return the guild of a webhook. A token that is given has to be the right one."""
        # A wrong token must not find what a right one has found.
        digest = "" if token is None else sha256(token.encode()).hexdigest()
        key = f"webhook {webhook_id} {digest}"

        async def ask() -> str | None:
            path = f"/webhooks/{webhook_id}" + ("" if token is None else f"/{token}")
            return _guild_of(await self._get(path, sandbox_id, authorized=token is None), webhook_id)

        return await self._find(key, sandbox_id, ask)

    async def guild_of_invite(self, code: str, *, sandbox_id: UUID) -> str | None:
        """Return the guild of an invite; None for one of a group, or none."""
        answer = await self._get(f"/invites/{code}", sandbox_id)
        found = answer.json() if answer.status == 200 else None
        guild = found.get("guild") if isinstance(found, dict) else None
        return _id(guild.get("id")) if isinstance(guild, dict) else None

    async def guild_of_template(self, code: str, *, sandbox_id: UUID) -> str | None:
        """Return the guild that a template was made from; None when there is no such template."""
        answer = await self._get(f"/guilds/templates/{code}", sandbox_id)
        found = answer.json() if answer.status == 200 else None
        return _id(found.get("source_guild_id")) if isinstance(found, dict) else None

    async def _get(self, path: str, sandbox_id: UUID, *, authorized: bool = True) -> UpstreamAnswer:
        answer = await self._upstream.request("GET", path, sandbox_id=sandbox_id, authorized=authorized)
        if answer.status == 429:
            raise limited(answer.retry_after, "look_up_limited")
        if answer.status >= 500 or (answer.status == 401 and authorized):
            raise unavailable("look_up_failed")
        return answer

    async def _find(self, key: str, sandbox_id: UUID, ask: Callable[[], Awaitable[str | None]]) -> str | None:
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        if self._unknown.get(key, 0.0) > self._monotonic():
            return None
        asked = (sandbox_id, key)
        task = self._asked.get(asked)
        if task is None:
            task = asyncio.create_task(self._ask(key, ask))
            self._asked[asked] = task
            task.add_done_callback(lambda done: self._forget(asked, done))
        # Shielded: one caller that goes away takes the answer from nobody else.
        return await asyncio.shield(task)

    def _forget(self, asked: tuple[UUID, str], done: asyncio.Task[str | None]) -> None:
        self._asked.pop(asked, None)
        if not done.cancelled():
            # Whoever waited has it; when nobody is left, it is nobody's.
            done.exception()

    async def _ask(self, key: str, ask: Callable[[], Awaitable[str | None]]) -> str | None:
        guild_id = await ask()
        if guild_id is not None:
            self._keep(key, guild_id)
            return guild_id
        self._unknown[key] = self._monotonic() + _UNKNOWN_FOR
        if len(self._unknown) > _MOST_UNKNOWN:
            self._unknown.popitem(last=False)
        return None

    def _keep(self, key: str, guild_id: str) -> None:
        self._known[key] = guild_id
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


def _guild_of(answer: UpstreamAnswer, thing_id: str) -> str | None:
    """Return the guild in an answer about this very thing."""
    found: Any = answer.json() if answer.status == 200 else None
    if not isinstance(found, dict) or found.get("id") != thing_id:
        return None
    return _id(found.get("guild_id"))


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and is_snowflake(value) else None
