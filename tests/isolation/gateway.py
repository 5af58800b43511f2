"""A bot's core that publishes, with its gateway in the test's hand, and plain NATS clients of workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.isolation.on_nats import close_wholly
from sandbox_core.models import GuildAccess
from sandbox_core.settings import Settings

MINE, OTHER, PRODUCTION = "100000000000000011", "100000000000000012", "100000000000000013"


def access(guild_id: str) -> GuildAccess:
    """What Discord says of an administrator."""
    return GuildAccess(guild_id, bot_is_member=True, caller_manages=True)


async def eventually(what: Callable[[], Awaitable[object]], within: float = 20.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within):
        while not await what():
            await asyncio.sleep(0.02)


class Gateway:
    """Hands frames of one shard to the bot's core."""

    def __init__(self, core: Core, session: str) -> None:
        self.core = core
        self.session = session
        self.seq = 0
        self.sent: dict[str, list[str]] = {}
        core.intake.adopt(session, 0, 0)

    def send(self, guild_id: str, text: str = "x") -> str:
        """An event of the guild; returns its message id."""
        self.seq += 1
        data = {"guild_id": guild_id, "content": text}
        raw = json.dumps({"t": "MESSAGE_CREATE", "s": self.seq, "op": 0, "d": data}).encode()
        frame = self.core.intake.read(raw)
        assert frame is not None
        self.core.intake.take(frame, 0)
        made = f"{self.session}:0:{self.seq}"
        self.sent.setdefault(guild_id, []).append(made)
        return made

    async def done(self) -> None:
        """Every event is acknowledged."""
        async with asyncio.timeout(20):
            await self.core.router.idle()

    async def production(self) -> list[str]:
        """The ids of this session's events that production's stream has, in its order."""
        js, found = self.core.js, []
        info = await js.stream_info("EVENTS")
        for number in range(info.state.first_seq, info.state.last_seq + 1):
            message = await js.get_msg("EVENTS", number)
            made = (message.headers or {}).get("Nats-Msg-Id", "")
            if made.startswith(f"{self.session}:"):
                found.append(made)
        return found


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[Core]:
    """The core of a bot."""
    async with open_core(settings, use_nats=NatsUse.EVENTS) as core:
        async with asyncio.timeout(20):
            while not (core.publishers.production.takes and core.publishers.sandboxes.takes):
                await asyncio.sleep(0.01)
        yield core


class Worker:
    """A plain client of nats-py that reads a sandbox's stream."""

    def __init__(self) -> None:
        self.client = Client()
        self.ended = asyncio.Event()
        self._events: Any = None

    async def connect(self, url: str) -> None:
        async def ended() -> None:
            self.ended.set()

        async def error(_problem: Exception) -> None:
            return

        await self.client.connect(
            url, allow_reconnect=False, connect_timeout=5, disconnected_cb=ended, error_cb=error
        )
        if not self.client.is_connected:
            raise nats.errors.NoServersError

    async def subscribe(self, sandbox_id: object) -> None:
        js = self.client.jetstream()
        self._events = await js.pull_subscribe(
            f"sandbox.{sandbox_id}.events.*", durable="plain", stream="SANDBOX"
        )

    async def next(self) -> Msg:
        """The next event, acknowledged."""
        (message,) = await self._events.fetch(1, timeout=10)
        await message.ack_sync(timeout=5)
        return message

    async def close(self) -> None:
        await close_wholly(self.client)


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[Worker]:
    """A worker that is connected."""
    made = Worker()
    try:
        await made.connect(url)
        yield made
    finally:
        await made.close()


async def is_refused(url: str) -> bool:
    """Whether the server lets nobody in with this."""
    try:
        async with worker(url):
            return False
    except (nats.errors.Error, OSError, TimeoutError):
        return True
