"""Direct messages to a bot (dpytest) with the real stores behind it: nothing of the core is replaced."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import discord
import discord.ext.test as dpytest
import pytest
from discord.ext import commands
from discord.ext.test import runner

from sandbox_core.bootstrap import Core, open_core
from sandbox_core.models import Actor, GuildAccess, Sandbox
from sandbox_core.settings import load_settings

ALICE = Actor("613625648685547541", "alice")
COOKS = "413625648685547541"


@pytest.fixture
async def core(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings) as opened:
        async with asyncio.timeout(60):
            while opened.routes.current_table is None:
                await asyncio.sleep(0.01)
        yield opened


@pytest.fixture(autouse=True)
def _same_modules_afterwards() -> Iterator[None]:
    """Unloading an extension forgets its modules; other tests go on with those they imported."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("sandbox_cogs")}
    yield
    sys.modules.update(before)


@dataclass(frozen=True)
class Reply:
    """What the bot sent: its text, and the text of the attached file if there was one."""

    text: str
    file: str | None = None
    filename: str | None = None


@dataclass(frozen=True)
class Scene:
    """A bot with the extension, its owner, somebody else, and a guild they share."""

    bot: commands.Bot
    core: Core
    owner: discord.Member
    other: discord.Member
    channel: discord.TextChannel
    sent: list[Reply]
    typed: list[Any]

    async def dm(self, text: str, who: discord.Member | None = None) -> list[Reply]:
        """Write to the bot (as its owner, unless said otherwise); what it sends until all is quiet."""
        member = who or self.owner
        return await self._say(text, await member.create_dm(), member)

    async def in_guild(self, text: str, who: discord.Member | None = None) -> list[Reply]:
        """Write in the guild's channel."""
        return await self._say(text, self.channel, who or self.owner)

    async def _say(self, text: str, channel: Any, member: discord.Member) -> list[Reply]:
        self.sent.clear()
        self.typed.clear()
        await dpytest.message(text, channel=channel, member=member)
        return list(self.sent)

    async def answer(self, text: str) -> str:
        """The text of the one short answer to an owner's command."""
        (reply,) = await self.dm(text)
        assert reply.file is None
        return reply.text

    async def sandbox(self, name: str, *guild_ids: str) -> Sandbox:
        """A running sandbox of Alice's."""
        guilds = [GuildAccess(guild_id, bot_is_member=True, caller_manages=True) for guild_id in guild_ids]
        return (await self.core.manager.create(ALICE, name=name, guilds=guilds)).sandbox

    async def let_expire(self, name: str) -> None:
        """Make it as old as if its time had been over for a minute."""
        await self.core.pool.execute(
            "UPDATE sandboxes SET created_at = created_at - (expires_at - now()) - interval '1 minute',"
            " expires_at = now() - interval '1 minute' WHERE name = $1",
            name,
        )


@pytest.fixture
async def scene(core: Core, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Scene]:
    bot = commands.Bot("!", intents=discord.Intents.all())
    await bot._async_setup_hook()
    dpytest.configure(bot, guilds=1, text_channels=1, voice_channels=0, members=["root", "mallory"])
    # dpytest raises every error of the bot's own text commands in the test.
    bot.on_command_error = _unknown_commands_are_nothing  # type: ignore[method-assign]
    config = runner.get_config()
    owner, other = config.members
    sent: list[Reply] = []
    typed: list[Any] = []
    http: Any = bot.http

    async def send_message(channel_id: int, *, params: Any) -> Any:
        # dpytest finds the channel in its caller's variables, and loses the text that comes with a file.
        channel = sys._getframe(1).f_locals["channel"]  # noqa: F841
        files = params.files or []
        payload = params.payload or _payload(params.multipart)
        content = files[0].fp.read().decode() if files else None
        sent.append(Reply(payload["content"], content, files[0].filename if files else None))
        assert payload["allowed_mentions"] == {"parse": []}
        return await original(channel_id, params=params._replace(payload=payload))

    async def typing(channel_id: int) -> None:
        typed.append(channel_id)

    original = http.send_message
    monkeypatch.setattr(http, "send_message", send_message)
    monkeypatch.setattr(http, "send_typing", typing)
    # Where dpytest puts attachments.
    monkeypatch.chdir(tmp_path)
    bot.owner_ids = {owner.id}
    bot.sandbox_core = core  # type: ignore[attr-defined]
    await bot.load_extension("sandbox_cogs.owner")
    yield Scene(bot, core, owner, other, config.channels[0], sent, typed)
    await dpytest.empty_queue()
    if "sandbox_cogs.owner" in bot.extensions:
        await bot.unload_extension("sandbox_cogs.owner")
    # dpytest's stand-in for the socket can't be closed.
    bot.ws = None  # type: ignore[assignment]
    await bot.close()


async def _unknown_commands_are_nothing(_ctx: object, error: commands.CommandError) -> None:
    if not isinstance(error, commands.CommandNotFound):
        raise error


def _payload(multipart: list[dict[str, Any]]) -> Any:
    (part,) = [part for part in multipart if part["name"] == "payload_json"]
    return json.loads(part["value"])
