"""The button below `health`: proves that the servers keep sandboxes apart, for the bot's owners only.

Its id holds all that it needs, so it works after a restart of the bot.
"""

from __future__ import annotations

import asyncio
import io
import re
import secrets
from functools import partial
from typing import Any, ClassVar, Self

import aiohttp
import discord
import structlog

from sandbox_cogs._acknowledge import TakenElsewhere, acknowledged, answer_for_another
from sandbox_cogs._core import AnyBot, core_of
from sandbox_cogs._correlation import correlated
from sandbox_cogs._owners import owner_ids_of
from sandbox_cogs._requests import answered
from sandbox_core.bootstrap import Core
from sandbox_core.error_text import explain
from sandbox_core.errors import NotPermitted, SandboxError
from sandbox_core.isolation import prove
from sandbox_core.models import Actor

from . import _render, _render_isolation

_log = structlog.get_logger("sandbox.owner")

_ID = "sandbox:owner:isolation"
_END_WITHIN = 5.0
Button = discord.ui.Button[discord.ui.View]
Interaction = discord.Interaction[AnyBot]


def isolation_button() -> discord.ui.View:
    """Return a view with the button, to which discord.py does not listen: `IsolationPressed` does."""
    view = discord.ui.View(timeout=None)
    view.add_item(Button(label="Prove the isolation", custom_id=_ID, style=discord.ButtonStyle.secondary))
    view.stop()
    return view


class IsolationPressed(discord.ui.DynamicItem[Button], template=re.escape(_ID)):
    """A press of the button."""

    running: ClassVar[set[asyncio.Task[Any]]] = set()
    """The proof that runs in this process; one is enough."""

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], item: discord.ui.Item[Any], _match: re.Match[str]
    ) -> Self:
        """Build the item for the pressed button."""
        assert isinstance(item, discord.ui.Button)  # noqa: S101 (nothing else of ours has the id)
        return cls(item)

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Answer the press: run the proof for an owner, and refuse everybody else."""
        core = core_of(interaction.client)
        if core.publishing.is_answered_elsewhere(interaction.guild_id):
            return
        facts = {"user_id": str(interaction.user.id), "interaction_id": str(interaction.id)}
        with correlated(core, "owner isolation", cause_id=interaction.id, user_id=interaction.user.id):
            try:
                try:
                    await self._answer(interaction, core, facts)
                except TakenElsewhere:
                    _log.info("owner_press_taken_elsewhere", **facts)
                    await answer_for_another(interaction, _render_isolation.stopped())
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                # Discord itself failed: the answer can't be sent.
                _log.warning("owner_press_not_answered", reason=str(error), **facts)

    async def _answer(self, interaction: Interaction, core: Core, facts: dict[str, str]) -> None:
        said = self._refusal(interaction, core)
        if said:
            _log.info("owner_press_refused", **facts)
            send = partial(interaction.response.send_message, said, ephemeral=True)
            await acknowledged(interaction, send)
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self.running.add(task)
        try:
            await acknowledged(interaction, partial(interaction.response.defer, thinking=True))
            await _show(interaction, *await _proof(interaction, core, facts))
        finally:
            self.running.discard(task)

    @classmethod
    async def end(cls) -> None:
        """End a proof that runs. Its sandboxes are removed, here or, when that takes too long, by cleanup."""
        for task in cls.running:
            task.cancel()
        if cls.running:
            await asyncio.wait(cls.running, timeout=_END_WITHIN)

    def _refusal(self, interaction: Interaction, core: Core) -> str:
        """Return why this press does nothing, or ""."""
        is_owner = str(interaction.user.id) in owner_ids_of(interaction.client, core.settings)
        if interaction.guild_id is not None or not is_owner:
            error = NotPermitted("prove the isolation", "the bot's owners, in a direct message")
            return _render.refusal(explain(error)).text
        return "A proof runs already; its answer comes within a minute." if self.running else ""


async def _proof(
    interaction: Interaction, core: Core, facts: dict[str, str]
) -> tuple[str | None, discord.Embed | None, str]:
    """Return what to show: a text or an embed, and what is in the attached file."""
    actor = Actor(str(interaction.user.id), interaction.user.display_name, is_bot_owner=True)
    try:
        report = await prove(core, actor)
    except SandboxError as error:
        _log.info("owner_command_refused", error_code=error.code, command="isolation", **facts)
        return _render.refusal(explain(error)).text, None, ""
    except Exception as error:  # the outermost handler: every failure becomes an answer
        error_id = secrets.token_hex(4)
        _log.error("owner_command_failed", error_id=error_id, exc_info=error, command="isolation", **facts)
        return _render.fault(error_id).text, None, ""
    return None, _render_isolation.embed(report), "\n".join(_render_isolation.lines(report))


async def _show(interaction: Interaction, text: str | None, embed: discord.Embed | None, table: str) -> None:
    def files() -> list[discord.File]:
        # discord.py closes what it has sent, and it may have to be sent again.
        content = io.BytesIO(f"{table}\n".encode())
        return [discord.File(content, filename="isolation.txt")] if table else []

    edit = interaction.edit_original_response
    await answered(lambda: edit(content=text, embed=embed, attachments=files()))
