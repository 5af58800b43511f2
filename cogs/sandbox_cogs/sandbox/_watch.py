"""Messages that are kept up to date for a while."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import aiohttp
import discord
import structlog

from sandbox_cogs._core import AnyBot

WATCH_SECONDS = 14 * 60.0
"""Discord lets an interaction's message be edited for 15 minutes (its documentation, "Followup Messages")."""
EVERY_SECONDS = 10.0
MOST_AT_ONCE = 50

_ATTRIBUTE = "_sandbox_watches"
_log = structlog.get_logger("sandbox.discord")


@dataclass(frozen=True, slots=True)
class Watched:
    """One message. Both functions edit it, and may raise what editing it raises."""

    ends_at: datetime
    update: Callable[[], Awaitable[bool]]
    """Show how things are now; False when there is nothing left to watch."""
    end: Callable[[], Awaitable[None]]
    """Show that the time is over."""


class Watches:
    """The messages that are kept up to date: one for each person, and at most `MOST_AT_ONCE`."""

    def __init__(self, *, every: float = EVERY_SECONDS, life: float = WATCH_SECONDS) -> None:
        """Both in seconds: between two updates, and from the first to the last."""
        self.life = life
        self._every = every
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._watched: dict[int, Watched] = {}
        self._by_user: dict[int, int] = {}

    @property
    def full(self) -> bool:
        """True when no other message can be watched."""
        return len(self._tasks) >= MOST_AT_ONCE

    def __len__(self) -> int:
        return len(self._tasks)

    def ends_at(self, message_id: int) -> datetime | None:
        """When the watching of a message ends; None when it is not watched."""
        watched = self._watched.get(message_id)
        return watched.ends_at if watched is not None else None

    def start(self, message_id: int, user_id: int, watched: Watched) -> None:
        """Begin to update a message; an earlier one of the same person is left as it is."""
        self.stop(message_id)
        earlier = self._by_user.get(user_id)
        if earlier is not None:
            self.stop(earlier)
        task = asyncio.create_task(self._keep(watched), name=f"sandbox-watch-{message_id}")
        self._tasks[message_id] = task
        self._watched[message_id] = watched
        self._by_user[user_id] = message_id
        task.add_done_callback(lambda _: self._ended(message_id, user_id, task))

    def stop(self, message_id: int) -> None:
        """Leave a message as it is; nothing happens when it is not watched."""
        self._watched.pop(message_id, None)
        task = self._tasks.pop(message_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Leave every message as it is."""
        tasks = list(self._tasks.values())
        for message_id in list(self._tasks):
            self.stop(message_id)
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, message_id: int, user_id: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(message_id) is task:
            del self._tasks[message_id], self._watched[message_id]
        if self._by_user.get(user_id) == message_id and message_id not in self._tasks:
            del self._by_user[user_id]

    async def _keep(self, watched: Watched) -> None:
        try:
            try:
                async with asyncio.timeout(self.life):
                    await self._until_nothing_is_left(watched)
            except TimeoutError:
                await watched.end()
        except discord.HTTPException as error:
            # Its reader deleted it, or Discord takes no more edits: either way the watching is over.
            _log.debug("watch_ended", status=error.status, code=error.code)
        except (aiohttp.ClientError, OSError) as error:
            _log.info("watch_ended", reason=type(error).__name__)
        except Exception:  # the edge of a task: there is nobody to raise to
            _log.exception("watch_failed", error_id=secrets.token_hex(4))

    async def _until_nothing_is_left(self, watched: Watched) -> None:
        going_on = True
        while going_on:
            await asyncio.sleep(self._every)
            going_on = await watched.update()


def watches_of(bot: AnyBot) -> Watches:
    """The bot's watched messages; made with the first question for them."""
    watches: Watches | None = getattr(bot, _ATTRIBUTE, None)
    if watches is None:
        watches = Watches()
        setattr(bot, _ATTRIBUTE, watches)
    return watches


async def close_watches(bot: AnyBot) -> None:
    """End all watching in this bot and forget it."""
    watches: Watches | None = getattr(bot, _ATTRIBUTE, None)
    if watches is not None:
        delattr(bot, _ATTRIBUTE)
        await watches.close()
