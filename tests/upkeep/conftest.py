"""A small Discord (simcord) with the real stores behind it, and the upkeep's turns in the test's hand."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta

import discord
import pytest
import simcord
from discord.ext import commands

from sandbox_cogs.upkeep import Upkeep
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.models import Actor, Sandbox
from sandbox_core.settings import load_settings


@pytest.fixture(autouse=True)
def _same_modules_afterwards() -> Iterator[None]:
    """Unloading an extension forgets its modules; other tests go on with those they imported."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("sandbox_cogs")}
    yield
    sys.modules.update(before)


@pytest.fixture
async def core(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings) as opened:
        # nats-py starts the task that reads answers with the first request.
        await opened.js.account_info()
        async with asyncio.timeout(60):
            while opened.routes.current_table is None:
                await asyncio.sleep(0.005)
        yield opened


@pytest.fixture
def extensions() -> tuple[str, ...]:
    """What the test's bot loads."""
    return ("sandbox_cogs.sandbox",)


@pytest.fixture
def simcord_bot(core: Core, extensions: tuple[str, ...]) -> commands.Bot:
    bot = commands.Bot("!", intents=discord.Intents.default())
    bot.sandbox_core = core  # type: ignore[attr-defined]

    async def setup_hook() -> None:
        for extension in extensions:
            await bot.load_extension(extension)

    bot.setup_hook = setup_hook  # type: ignore[method-assign]
    return bot


@dataclass(frozen=True)
class Scene:
    env: simcord.Env
    core: Core
    upkeep: Upkeep
    alice: simcord.UserHandle
    root: simcord.UserHandle

    async def sandbox(self, name: str, owner: str | None = None) -> Sandbox:
        return (
            await self.core.manager.create(Actor(owner or str(self.alice.id), "alice"), name=name)
        ).sandbox

    async def ends_in(self, sandbox: Sandbox, left: timedelta) -> None:
        """As if it had been made yesterday, for a life that ends after `left`."""
        await self.core.pool.execute(
            "UPDATE sandboxes SET created_at = now() - interval '1 day', expires_at = now() + $2::interval"
            " WHERE id = $1",
            sandbox.id,
            left,
        )

    def messages(self, user: simcord.UserHandle) -> list[discord.Message]:
        """What the bot has written to this user."""
        return user.dm_channel.history()


@pytest.fixture
async def scene(simcord_env: simcord.Env, core: Core) -> Scene:
    alice, root = (simcord_env.create_user(name) for name in ("alice", "root"))
    bot = simcord_env.bot
    assert isinstance(bot, commands.Bot)
    bot.owner_ids = {root.id}
    await simcord_env.settle()
    return Scene(simcord_env, core, Upkeep(bot, core), alice, root)
