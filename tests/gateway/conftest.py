"""The real bot as a process of its own, on the simulator and the real servers: it can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamState

from discord_sim import DiscordSim
from sandbox_bot.tour.readback import read_stream
from sandbox_core.postgres.pool import Pool, create_pool
from sandbox_core.sharding import tuning
from tests.forked import ForkedProcess, start_forked

_STARTED_WITHIN = 60.0

_LIMITS = {"PRESENCE_ANSWER_WITHIN": 20.0, "TAKEOVER_LOOKED_UP_WITHIN": 20.0}
"""What the servers have in a test to answer in time, in seconds; the product has less to wait for."""


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _patience_with_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that a loaded machine lets wait has not failed to answer; see `_patience` of all tests."""
    for limit, seconds in _LIMITS.items():
        monkeypatch.setattr(tuning, limit, seconds)


StartProcess = Callable[..., Awaitable["BotProcess"]]


@dataclass
class BotProcess:
    """One `python -m sandbox_bot run`; its log is kept for the failure message."""

    process: ForkedProcess
    log: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None

    async def started(self) -> None:
        """Return when the bot says that it is ready."""
        try:
            await until(
                lambda: self.says("bot_ready") or self.process.returncode is not None, _STARTED_WITHIN
            )
        except TimeoutError:
            raise AssertionError("the bot did not start:\n" + "\n".join(self.log)) from None
        assert self.process.returncode is None, "\n".join(self.log)

    @property
    def ops_url(self) -> str:
        """Its ops endpoint."""
        (event,) = (json.loads(line) for line in self.log if "ops_listening" in line)
        return str(event["url"])

    def says(self, text: str) -> bool:
        """True when the log has this text."""
        return any(text in line for line in self.log)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(60):
            code = await self.process.wait()
            if self.reader is not None:
                await self.reader
        return code


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(record=True, replay_limit=100_000) as running:
        yield running


@pytest.fixture
async def start_bot(
    sim: DiscordSim, database_url: str, redis_url: str, nats_url: str
) -> AsyncIterator[StartProcess]:
    """Starts a bot process, with more settings by their variables; those alive at the end are killed."""
    dev = sim.add_guild("Dev")
    environment = {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("DISCORD_", "SANDBOX_"))
        },
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "NATS_URL": nats_url,
        "SANDBOX_ISOLATION": "convention",
        "DISCORD_TOKEN": "sim-token",
        "DISCORD_API_URL": sim.api_url,
        "DISCORD_DEV_GUILD_IDS": str(dev.id),
        "OPS_PORT": "0",
        "LOG_FORMAT": "json",
    }
    started: list[BotProcess] = []

    async def start(**more: str) -> BotProcess:
        process = await start_forked("run", environment={**environment, **more})
        bot = BotProcess(process)

        async def read() -> None:
            async for line in process.stdout:
                bot.log.append(line.decode().rstrip())

        bot.reader = asyncio.create_task(read())
        started.append(bot)
        await bot.started()
        return bot

    yield start
    for bot in started:
        if bot.process.returncode is None:
            await bot.end(signal.SIGKILL)


@dataclass(frozen=True)
class Delivered:
    """What the streams hold, by message id."""

    payloads: dict[str, bytes]
    order: list[tuple[str, int]]
    """Guild and sequence, in the order of the stream."""
    doubled: int


async def read_back(nats_url: str, least: int) -> Delivered:
    """The messages in the production stream, once there are so many."""
    subject = "events.MESSAGE_CREATE"
    client = await nats.connect(nats_url)
    try:
        js = client.jetstream()
        async with asyncio.timeout(60):
            while sum(((await _state(js, subject)).subjects or {}).values()) < least:
                await asyncio.sleep(0.02)
        stored = [event for event in await read_stream(js, "EVENTS", "events.>") if event.subject == subject]
    finally:
        await client.close()
    return Delivered(
        payloads={event.message_id: event.payload for event in stored},
        order=[
            (event.headers.get("Discord-Guild-Id", ""), int(event.message_id.rsplit(":", 1)[1]))
            for event in stored
        ],
        doubled=len(stored) - len({event.message_id for event in stored}),
    )


async def _state(js: JetStreamContext, subject: str) -> StreamState:
    return (await js.stream_info("EVENTS", subjects_filter=subject)).state


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database_url)
    yield pool
    await pool.close()
