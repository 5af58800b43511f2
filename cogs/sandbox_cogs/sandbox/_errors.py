"""Turns failures of interactions into answers; no other module does."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import aiohttp
import discord
import structlog
from discord import app_commands

from sandbox_cogs._acknowledge import TakenElsewhere, acknowledged, answer_for_another, is_acknowledged
from sandbox_cogs._core import CORE_ATTRIBUTE, AnyBot
from sandbox_cogs._requests import answered
from sandbox_core.error_text import explain
from sandbox_core.errors import SandboxError

from . import _outcome, _render

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

_log = structlog.get_logger("sandbox.discord")
_REPORTED = "sandbox:reported"


async def report(interaction: discord.Interaction[AnyBot], error: BaseException) -> None:
    """Answer `interaction` with the failure, once, even when several handlers pass on the same failure.

    A `SandboxError` becomes its text and code. `TakenElsewhere` is answered when the other process does not.
    Any other error is logged under an id, and the caller sees one sentence with the id.
    """
    if interaction.extras.setdefault(_REPORTED, False):
        return
    interaction.extras[_REPORTED] = True
    cause = error.original if isinstance(error, app_commands.CommandInvokeError) else error
    if isinstance(cause, TakenElsewhere):
        _log.info("interaction_taken_elsewhere", **_facts(interaction))
        try:
            await answer_for_another(interaction, _render.stopped())
        except (discord.HTTPException, aiohttp.ClientError, OSError) as failure:
            _log.warning(
                "interaction_not_answered", reason=str(failure) or repr(failure), **_facts(interaction)
            )
        return
    if interaction.type is not discord.InteractionType.autocomplete:
        _outcome.count(interaction, _outcome.outcome_of(cause))
    if isinstance(cause, SandboxError):
        embed = _render.refusal(explain(cause))
        _log.info("interaction_refused", error_code=cause.code, **_facts(interaction))
        _trace_refusal(interaction, cause.code)
    else:
        error_id = secrets.token_hex(4)
        embed = _render.fault(error_id)
        _log.error("interaction_failed", error_id=error_id, exc_info=cause, **_facts(interaction))
    await _send(interaction, embed)


async def report_unshown(interaction: discord.Interaction[AnyBot], error: Exception) -> None:
    """Say, if Discord takes that at least, that the work is done and its answer could not be shown."""
    error_id = secrets.token_hex(4)
    _log.error("answer_not_shown", error_id=error_id, exc_info=error, **_facts(interaction))
    await _send(interaction, _render.unshown(error_id))


async def on_tree_error(
    interaction: discord.Interaction[AnyBot], error: app_commands.AppCommandError
) -> None:
    """Handle errors of a command tree that has only this project's commands (`tree.error`).

    An unknown command gets no answer: it may belong to another worker of the same application.
    """
    if not isinstance(error, app_commands.CommandNotFound):
        await report(interaction, error)


async def _send(interaction: discord.Interaction[AnyBot], embed: discord.Embed) -> None:
    if interaction.type is discord.InteractionType.autocomplete:
        return
    try:
        if is_acknowledged(interaction) or not await acknowledged(
            interaction, lambda: interaction.response.send_message(embed=embed, ephemeral=True)
        ):
            edit = interaction.edit_original_response
            await answered(lambda: edit(content=None, embed=embed, view=None, attachments=[]))
    except (TakenElsewhere, discord.HTTPException, aiohttp.ClientError, OSError) as failure:
        # Discord itself failed, or the interaction expired or is another's: the answer can't be sent.
        _log.warning("interaction_not_answered", reason=str(failure) or repr(failure), **_facts(interaction))


def _trace_refusal(interaction: discord.Interaction[AnyBot], code: str) -> None:
    # The failure may be that there is no core.
    core: Core | None = getattr(interaction.client, CORE_ATTRIBUTE, None)
    if core is not None and core.tracing is not None:
        core.tracing.refused(code)


def _facts(interaction: discord.Interaction[AnyBot]) -> dict[str, object]:
    command = interaction.command
    return {
        "command": command.qualified_name if command is not None else None,
        "user_id": str(interaction.user.id),
        "guild_id": str(interaction.guild_id) if interaction.guild_id is not None else None,
        "interaction_id": str(interaction.id),
    }
