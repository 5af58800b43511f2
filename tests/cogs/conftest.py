"""A small Discord (simcord) with the real stores behind the bot: nothing of the core is replaced.

The network clients are opened before simcord starts, so that it does not wait for their endless reading.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import discord
import pytest
import simcord
from discord.ext import commands
from simcord.backend import serializers
from simcord.http.router import RequestContext, route
from simcord.interactions import base_payload

from sandbox_cogs.sandbox import sync_commands
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.event_router import GatewayIntake
from sandbox_core.settings import load_settings
from tests.event_path.conftest import count as acknowledge

DEV_GUILD = 300000000000000001
COOKS_GUILD = 300000000000000002
MUSIC_GUILD = 300000000000000003
PROTECTED_GUILD = 300000000000000004
ABSENT_GUILD = "399999999999999999"
LIMIT_PER_OWNER = 3
COMPONENT, BUTTON, MENU = 3, 2, 3
_SETTLES_WITHIN = 60.0


@route("POST", "/applications/{application_id}/guilds/{guild_id}/commands")
def _create_guild_command(ctx: RequestContext) -> Any:
    """Discord's "Create Guild Application Command", which simcord lacks: create, or replace by name."""
    guild_id = ctx.int_arg("guild_id")
    new = ctx.body()
    kept = [
        {key: value for key, value in command.items() if key not in {"id", "application_id", "guild_id"}}
        for command in ctx.backend.commands.get(guild_id, {}).values()
        if command["name"] != new["name"]
    ]
    payload = {key: value for key, value in new.items() if key != "nsfw"}
    return ctx.backend.register_commands(guild_id, [*kept, payload])[-1]


class Stopwatch:
    """The clock of the gateway's intake, in seconds; it stands still until a test puts it forward."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def forward(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def role_ids() -> str:
    """`DISCORD_DEV_ROLE_IDS` of the test's bot."""
    return ""


@pytest.fixture
async def core(
    database_url: str, redis_url: str, nats_url: str, role_ids: str, stopwatch: Stopwatch
) -> AsyncIterator[Core]:
    settings = load_settings(
        _env_file=None,
        database_url=database_url,
        redis_url=redis_url,
        nats_url=nats_url,
        discord_dev_guild_ids=str(DEV_GUILD),
        discord_dev_role_ids=role_ids,
        discord_protected_guild_ids=str(PROTECTED_GUILD),
        sandbox_max_per_owner=LIMIT_PER_OWNER,
    )
    async with open_core(settings) as opened:
        # nats-py starts the task that reads answers with the first request.
        await opened.js.account_info()
        async with asyncio.timeout(60):
            while opened.routes.current_table is None:
                await asyncio.sleep(0.005)
            while not (await opened.last_events.of(str(COOKS_GUILD))).is_none:
                await asyncio.sleep(0.005)
        yield replace(opened, intake=GatewayIntake(opened.router, monotonic=stopwatch))


def make_bot(core: Core | None) -> commands.Bot:
    """A bot as a host would write it; with `core` it brings the core itself."""
    bot = commands.Bot("!", intents=discord.Intents.default())
    if core is not None:
        bot.sandbox_core = core  # type: ignore[attr-defined]
    return bot


@pytest.fixture
def simcord_bot(core: Core) -> commands.Bot:
    bot = make_bot(core)

    async def setup_hook() -> None:
        await bot.load_extension("sandbox_cogs.sandbox")
        await sync_commands(bot)

    bot.setup_hook = setup_hook  # type: ignore[method-assign]
    return bot


@pytest.fixture
def simcord_env(simcord_env: simcord.Env) -> simcord.Env:
    """Waits for what the bot does, however long the real servers take.

    simcord's one limit says how long it waits, and also which timers it waits for: with a longer one it would
    wait in earnest for those of the messages that are kept up to date.
    """
    env: Any = simcord_env
    settle = env._settle_internal

    async def settled(**options: Any) -> None:
        now = asyncio.get_running_loop().time
        until = now() + _SETTLES_WITHIN
        while True:
            try:
                await settle(**options)
            except TimeoutError:
                # With a moment of its own it is part of something that waits for longer.
                if options.get("_deadline") is not None or now() >= until:
                    raise
            else:
                return

    env._settle_internal = settled
    return simcord_env


@dataclass(frozen=True)
class Scene:
    """The dev guild with its people, three other guilds, and how to look at what happened."""

    env: simcord.Env
    core: Core
    channel: simcord.ChannelHandle
    alice: simcord.MemberActor
    bob: simcord.MemberActor
    bot_owner: simcord.MemberActor
    cooks: simcord.GuildHandle

    async def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything a command could change: rows, schemas and the audit log."""
        queries = {
            "sandboxes": "SELECT id, name, owner, status::text, expires_at FROM sandboxes ORDER BY id",
            "guilds": "SELECT guild_id, sandbox_id FROM sandbox_guild_mapping ORDER BY guild_id",
            "schemas": r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sandbox\_%' ORDER BY 1",
            "audit": "SELECT id, event_type::text FROM sandbox_audit_log ORDER BY id",
        }
        return {
            what: [tuple(row) for row in await self.core.pool.fetch(query)] for what, query in queries.items()
        }


def production_events(core: Core, guild_id: int, count: int) -> None:
    """As if so many of the guild's events had just gone to production."""
    for _ in range(count):
        acknowledge(core.router.activity, str(guild_id), None)


@pytest.fixture
async def scene(
    simcord_env: simcord.Env, core: Core, stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    env = simcord_env
    # Of the module that the bot uses: suggestions of a slow server are none, and no failure.
    monkeypatch.setattr(sys.modules["sandbox_cogs.sandbox._autocomplete"], "BUDGET_SECONDS", 20.0)
    manage = discord.Permissions(manage_guild=True)
    alice, bob, bot_owner = (env.create_user(name) for name in ("alice", "bob", "root"))
    env.bot.owner_ids = {bot_owner.id}  # type: ignore[attr-defined]

    dev = env.create_guild("Dev", id=DEV_GUILD)
    channel = dev.create_text_channel("sandboxes")
    managers = dev.create_role("developers", permissions=manage)
    people = [dev.add_member(user, roles=[managers]) for user in (alice, bob, bot_owner)]

    cooks = env.create_guild("Cooks", id=COOKS_GUILD)
    cooks.add_member(alice, roles=[cooks.create_role("managers", permissions=manage)])
    cooks.add_member(bob)
    music = env.create_guild("Music", id=MUSIC_GUILD)
    music.add_member(bob, roles=[music.create_role("managers", permissions=manage)])
    protected = env.create_guild("Production", id=PROTECTED_GUILD)
    everyone = protected.create_role("managers", permissions=manage)
    for user in (alice, bot_owner):
        protected.add_member(user, roles=[everyone])
    await env.settle()
    # simcord's frames do not pass the gateway's extension; as if they did, on the only shard.
    core.intake.adopt("simcord", 0, 0)
    stopwatch.forward(3600)
    return Scene(env, core, channel, people[0], people[1], people[2], cooks)


async def pass_time(scene: Scene, seconds: float) -> None:
    """Move simcord's clock, and let what is due meanwhile end, however long the real servers take."""
    before, scene.env.settle_timeout = scene.env.settle_timeout, 60.0
    try:
        await scene.env.advance_time(seconds)
    finally:
        # Outside an advance, simcord waits in earnest for every timer nearer than this.
        scene.env.settle_timeout = before


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    """Wait until `condition` is true; after `within` seconds the test fails."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def embed_of(result: simcord.InteractionResult) -> discord.Embed:
    """The one embed of a private answer; anything else fails the test."""
    assert result.response is not None
    assert result.response.ephemeral
    assert not result.followups
    (embed,) = result.response.embeds
    return embed


def text_of(embed: discord.Embed) -> str:
    """All words of an embed, a line for each part."""
    fields = [f"{field.name}: {field.value}" for field in embed.fields]
    parts = [embed.title, embed.description, *fields, embed.footer.text]
    return "\n".join(part for part in parts if part)


def code_of(result: simcord.InteractionResult) -> str | None:
    """The error code of a private refusal."""
    return embed_of(result).footer.text


async def no_connection(*_: object, **__: object) -> None:
    """Instead of a request to Discord: one that never arrives."""
    raise aiohttp.ServerDisconnectedError


def labels_of(message: simcord.ResponseMessage) -> list[str]:
    """The buttons below a message that can be pressed."""
    buttons = [button for row in message.components for button in row["components"]]
    return [button["label"] for button in buttons if "label" in button and not button.get("disabled")]


def button_id(question: simcord.ResponseMessage, label: str) -> str:
    """The id of the one button with this label."""
    (found,) = [
        button["custom_id"]
        for row in question.components
        for button in row["components"]
        if button.get("label") == label
    ]
    return str(found)


class Press:
    """A click as it comes over the wire, also where Discord's client would not offer the button.

    It holds the message as it was when the press was made: the second of two fast clicks still shows
    the buttons that the first one removes.
    """

    def __init__(
        self,
        scene: Scene,
        who: simcord.MemberActor,
        question: simcord.ResponseMessage,
        label: str = "",
        *,
        custom_id: str | None = None,
        in_a_direct_message: bool = False,
        chosen: list[str] | None = None,
    ) -> None:
        self._backend = scene.env.backend
        stored = self._backend.get_message(question.channel_id, question.id)
        record, self._payload = base_payload(
            self._backend,
            type=COMPONENT,
            channel_id=question.channel_id,
            guild_id=None if in_a_direct_message else DEV_GUILD,
            user_id=who.id,
            data={
                "custom_id": button_id(question, label) if custom_id is None else custom_id,
                **(
                    {"component_type": BUTTON}
                    if chosen is None
                    else {"component_type": MENU, "values": chosen}
                ),
            },
        )
        self._payload["message"] = dict(serializers.message_payload(self._backend, stored))
        record.source_message_id = stored.id
        self.result = simcord.InteractionResult(scene.env, record)

    def send(self) -> None:
        """Let it arrive; `scene.env.settle()` waits for what it does."""
        self._backend.emit("INTERACTION_CREATE", self._payload)
