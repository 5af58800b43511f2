"""Receives the direct messages of the bot's owners, and answers each command exactly once."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import aiohttp
import discord
import structlog
from discord.ext import commands

from sandbox_cogs._core import AnyBot
from sandbox_cogs._correlation import correlated
from sandbox_cogs._owners import owner_ids_of
from sandbox_cogs._requests import answered, nonce_of
from sandbox_core.bootstrap import Core
from sandbox_core.error_text import explain
from sandbox_core.errors import SandboxError
from sandbox_core.events import OwnerCommand, read_owner_command
from sandbox_core.models import Actor
from sandbox_core.tasks import within

from . import _render
from ._answer import Answer, as_message
from ._commands import Commands, Request

_log = structlog.get_logger("sandbox.owner")

_UNLOAD_WITHIN = 5.0


class OwnerMessages(commands.Cog):
    """Runs the commands of the bot's owners; it never answers anybody else.

    It does not use the bot's text commands: their names, prefix, checks and error handlers belong to the
    host, which may have its own `help` or `status`.
    """

    def __init__(self, bot: AnyBot, core: Core) -> None:
        self._bot = bot
        self._core = core
        self._commands = Commands(bot, core)
        self._running: set[asyncio.Task[Any]] = set()

    async def cog_load(self) -> None:
        """Start to handle the owners' commands here; they are no longer published."""
        self._learn_owners()

    async def cog_unload(self) -> None:
        """Finish the running commands; from now on the owners' messages go to production."""
        self._core.intake.owner_ids = frozenset()
        if self._running:
            await asyncio.wait(self._running, timeout=_UNLOAD_WITHIN)

    def _learn_owners(self) -> None:
        self._core.intake.owner_ids = owner_ids_of(self._bot, self._core.settings)

    @commands.Cog.listener()
    async def on_connect(self) -> None:
        """Look up the application's owners again: before the login they are unknown."""
        self._learn_owners()

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """Answer a command of an owner; ignore any other message."""
        if message.guild is not None or self._core.publishing.is_answered_elsewhere(None):
            return
        command = read_owner_command(str(message.author.id), message.content, self._core.intake.owner_ids)
        if command is None:
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._running.add(task)
        try:
            with correlated(
                self._core, f"owner {command.word}", cause_id=message.id, user_id=message.author.id
            ):
                await self._handle(message, command)
        finally:
            self._running.discard(task)

    async def _handle(self, message: discord.Message, command: OwnerCommand) -> None:
        actor = Actor(str(message.author.id), message.author.display_name, is_bot_owner=True)
        facts = {"command": command.word, "user_id": actor.id, "message_id": str(message.id)}
        try:
            answer = await self._carry_out(message, command, actor)
        except SandboxError as error:
            _log.info("owner_command_refused", error_code=error.code, **facts)
            if self._core.tracing is not None:
                self._core.tracing.refused(error.code)
            answer = _render.refusal(explain(error))
        except Exception as error:  # the outermost handler: every failure becomes an answer
            error_id = secrets.token_hex(4)
            _log.error("owner_command_failed", error_id=error_id, exc_info=error, **facts)
            answer = _render.fault(error_id)
        try:
            await answered(lambda: _send(message, answer))
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            # Discord itself failed: the answer can't be sent.
            _log.warning("owner_command_not_answered", reason=str(error), **facts)

    async def _carry_out(self, message: discord.Message, command: OwnerCommand, actor: Actor) -> Answer:
        spec = self._commands.spec(command.word)
        if spec.slow:
            await self._show_typing(message)
        try:
            request = Request(actor, command.arguments, str(message.id))
            return await within(spec.budget, spec.run(request))
        except TimeoutError:
            raise await spec.late(self._core, command.arguments) from None

    async def _show_typing(self, message: discord.Message) -> None:
        try:
            await message.channel.typing()
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.debug("typing_not_shown", reason=str(error))


async def _send(message: discord.Message, answer: Answer) -> None:
    content, file = as_message(answer)
    nobody = discord.AllowedMentions.none()
    # One message answers a command, whoever sends it and how often.
    nonce = nonce_of("answer", message.id)
    more: dict[str, Any] = {} if file is None else {"file": file}
    if answer.view is not None:
        more["view"] = answer.view
    await message.channel.send(content, allowed_mentions=nobody, nonce=nonce, **more)
