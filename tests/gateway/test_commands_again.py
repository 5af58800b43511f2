"""A process dies after it did what it was asked for; its successor gets the same command from Discord."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from discord_sim import DiscordSim
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.models import Actor, AuditEvent, ResumePoint
from sandbox_core.settings import load_settings

from .conftest import BotProcess, StartProcess, until

EXTENSION = timedelta(hours=3)


@pytest.fixture
async def commands(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    """A process that reads what became of the commands, and publishes nothing."""
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
        yield core


class Commanded:
    """A sandbox that is extended, and a bot that is killed and comes back to before that."""

    def __init__(self, sim: DiscordSim, start_bot: StartProcess, core: Core) -> None:
        self._sim = sim
        self._start = start_bot
        self._core = core
        self._early: ResumePoint | None = None

    async def begin(self) -> tuple[BotProcess, datetime]:
        """Start the bot; its process, and when the sandbox ends."""
        bot = await self._start()
        made = await self._core.manager.create(Actor(str(self._sim.owner.id), "Owner"), name="mine")
        async with asyncio.timeout(60):
            while self._early is None:
                self._early = await self._core.resume_points.load(self._sim.application_id, 0, 1)
        return bot, made.sandbox.expires_at

    async def killed_and_back(self, bot: BotProcess) -> BotProcess:
        """Kill it and start another, as if the point to resume from had not been saved since `begin`."""
        await bot.end(signal.SIGKILL)
        points, application_id = self._core.resume_points, self._sim.application_id
        late = await points.load(application_id, 0, 1)
        assert late is not None
        assert self._early is not None
        await points.forget(application_id, 0, 1, late.session_id)
        await points.save(application_id, 1, {0: replace(self._early, saved_at=late.saved_at + 1)})
        again = await self._start()
        await until(lambda: len(self._sim.resumes) == 1)
        assert len(self._sim.identifies) == 1
        return again

    async def extensions(self) -> list[datetime]:
        """When the sandbox ends now, once for each time that it was extended."""
        sandbox = await self._core.manager.get("mine")
        entries = await self._core.manager.audit(str(sandbox.id))
        return [sandbox.expires_at for entry in entries if entry.event_type is AuditEvent.TTL_EXTENDED]


@pytest.fixture
def commanded(sim: DiscordSim, start_bot: StartProcess, commands: Core) -> Commanded:
    return Commanded(sim, start_bot, commands)


async def test_a_message_of_the_bots_owner(sim: DiscordSim, commanded: Commanded) -> None:
    bot, end = await commanded.begin()
    (answer,) = await sim.dm(sim.owner, "extend mine 3h")
    assert await commanded.extensions() == [end + EXTENSION]
    again = await commanded.killed_and_back(bot)

    def answers() -> list[str]:
        sent = [each for each in sim.requests if each.method == "POST" and each.path.endswith("/messages")]
        # Before it is read, a request has neither a body nor a status.
        return [each.body["content"] for each in sent if each.status]

    await until(lambda: len(answers()) == 2)
    assert set(answers()) == {answer.content}
    assert await commanded.extensions() == [end + EXTENSION]
    # Both answers are one message.
    assert len(await sim.dm(sim.owner, "list")) == 1
    assert await again.end(signal.SIGTERM) == 0
