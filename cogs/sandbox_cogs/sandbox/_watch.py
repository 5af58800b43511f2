"""Keeps messages up to date for some minutes."""

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
"""Discord allows edits of an interaction's message for 15 minutes (documentation, "Followup Messages")."""
EVERY_SECONDS = 10.0
MOST_AT_ONCE = 50

_ATTRIBUTE = "_sandbox_watches"
_log = structlog.get_logger("sandbox.discord")


@dataclass(frozen=True, slots=True)
class LiveMessage:
    """One message with live updates. Both functions edit it, and raise what an edit raises."""

    ends_at: datetime
    update: Callable[[], Awaitable[bool]]
    """Update the message. Returns False when no more updates are needed."""
    end: Callable[[], Awaitable[None]]
    """Update the message a last time, after the updates have ended."""


class Watches:
    """All messages with live updates: one for each person, and at most `MOST_AT_ONCE`."""

    def __init__(self, *, every: float = EVERY_SECONDS, life: float = WATCH_SECONDS) -> None:
        """`every` is the pause between updates, `life` the time of all updates; both in seconds."""
        self.life = life
        self._every = every
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._messages: dict[int, LiveMessage] = {}
        self._by_user: dict[int, int] = {}

    @property
    def full(self) -> bool:
        """Whether no more messages can get live updates."""
        return len(self._tasks) >= MOST_AT_ONCE

    def __len__(self) -> int:
        return len(self._tasks)

    def ends_at(self, message_id: int) -> datetime | None:
        """Return when a message's live updates end; None when it has none."""
        message = self._messages.get(message_id)
        return message.ends_at if message is not None else None

    def start(self, message_id: int, user_id: int, message: LiveMessage) -> None:
        """Start to update a message; the updates of the same person's earlier message stop."""
        self.stop(message_id)
        earlier = self._by_user.get(user_id)
        if earlier is not None:
            self.stop(earlier)
        task = asyncio.create_task(self._keep(message), name=f"sandbox-watch-{message_id}")
        self._tasks[message_id] = task
        self._messages[message_id] = message
        self._by_user[user_id] = message_id
        task.add_done_callback(lambda _: self._ended(message_id, user_id, task))

    def stop(self, message_id: int) -> None:
        """Stop a message's updates; do nothing when it has none."""
        self._messages.pop(message_id, None)
        task = self._tasks.pop(message_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop the updates of all messages."""
        tasks = list(self._tasks.values())
        for message_id in list(self._tasks):
            self.stop(message_id)
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, message_id: int, user_id: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(message_id) is task:
            del self._tasks[message_id], self._messages[message_id]
        if self._by_user.get(user_id) == message_id and message_id not in self._tasks:
            del self._by_user[user_id]

    async def _keep(self, message: LiveMessage) -> None:
        try:
            try:
                async with asyncio.timeout(self.life):
                    await self._update_until_gone(message)
            except TimeoutError:
                await message.end()
        except discord.HTTPException as error:
            # The reader deleted the message, or Discord accepts no more edits.
            _log.debug("watch_ended", status=error.status, code=error.code)
        except (aiohttp.ClientError, OSError) as error:
            _log.info("watch_ended", reason=type(error).__name__)
        except Exception:  # the end of a task: no caller would see the error
            _log.exception("watch_failed", error_id=secrets.token_hex(4))

    async def _update_until_gone(self, message: LiveMessage) -> None:
        going_on = True
        while going_on:
            await asyncio.sleep(self._every)
            going_on = await message.update()


def watches_of(bot: AnyBot) -> Watches:
    """Return the bot's messages with live updates; the first call creates the collection."""
    watches: Watches | None = getattr(bot, _ATTRIBUTE, None)
    if watches is None:
        watches = Watches()
        setattr(bot, _ATTRIBUTE, watches)
    return watches


async def close_watches(bot: AnyBot) -> None:
    """Stop all live updates in this bot."""
    watches: Watches | None = getattr(bot, _ATTRIBUTE, None)
    if watches is not None:
        delattr(bot, _ATTRIBUTE)
        await watches.close()
