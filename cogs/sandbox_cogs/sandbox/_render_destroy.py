"""Renders questions and answers about destroying sandboxes; pure, always within Discord's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import discord

from sandbox_core import subjects
from sandbox_core.manager import Changed
from sandbox_core.models import Sandbox
from sandbox_core.words import counted

from ._text import (
    AMBER,
    DESCRIPTION_LIMIT,
    FIELD_LIMIT,
    GREEN,
    GREY,
    RED,
    GuildNames,
    add_unconfirmed,
    cut,
    guild_label,
    joined,
)


@dataclass(frozen=True, slots=True)
class Removal:
    """The result of destroying one sandbox; `problem` is "" when it is destroyed."""

    name: str
    problem: str = ""
    code: str = ""


def question(sandbox: Sandbox, names: GuildNames) -> discord.Embed:
    """The question of `destroy`: it lists everything that will be deleted."""
    embed = discord.Embed(title=f"Destroy the sandbox {sandbox.name}?", colour=RED)
    embed.description = "This can't be undone. It deletes:"
    deleted = {
        "PostgreSQL": f"the schema `{sandbox.schema_name}` with every table and row in it",
        "Redis": f"every key under `{subjects.redis_prefix(sandbox.id)}`",
        "NATS": f"every message waiting on `{subjects.sandbox_filter(sandbox.id)}`",
    }
    for store, what in deleted.items():
        embed.add_field(name=store, value=what, inline=False)
    if sandbox.guild_ids:
        labels = [guild_label(guild_id, names) for guild_id in sandbox.guild_ids]
        title = "Servers whose events go to production again"
        embed.add_field(name=title, value=joined(labels, FIELD_LIMIT, "\n"), inline=False)
    return embed


def question_about_all(sandboxes: Sequence[Sandbox]) -> discord.Embed:
    """The question of `destroy all`, with one line for each sandbox."""
    many = counted(len(sandboxes), "sandbox", "sandboxes")
    embed = discord.Embed(title=f"Destroy all of yours, {many}?", colour=RED)
    lines = [
        f"**{sandbox.name}** · `{sandbox.schema_name}` · "
        f"{counted(len(sandbox.guild_ids), 'server', 'servers')}"
        for sandbox in sandboxes
    ]
    # The sentences below the list need the rest.
    names = joined(lines, DESCRIPTION_LIMIT - 400, "\n")
    embed.description = (
        f"{names}\n\nThis can't be undone. It deletes their schemas with every table and row, their Redis "
        "keys and their waiting NATS messages; their servers' events go to production again."
    )
    return embed


def destroyed(gone: Changed) -> discord.Embed:
    """The answer after one sandbox was destroyed."""
    text = "Its schema, keys and messages are deleted, and its servers' events go to production again."
    embed = discord.Embed(title=f"Sandbox {gone.sandbox.name} is destroyed", description=text, colour=GREY)
    return add_unconfirmed(embed, gone)


def removals(results: Sequence[Removal]) -> discord.Embed:
    """The answer to `destroy all`: the result for each sandbox."""
    gone = sum(not result.problem for result in results)
    whole = gone == len(results)
    title = f"{gone} of {counted(len(results), 'sandbox', 'sandboxes')} destroyed"
    embed = discord.Embed(title=title, colour=GREEN if whole else AMBER)
    embed.description = joined([_removal(result) for result in results], DESCRIPTION_LIMIT, "\n")
    return embed


def _removal(result: Removal) -> str:
    if not result.problem:
        return f"✅ **{result.name}** is destroyed"
    code = f" · {result.code}" if result.code else ""
    return f"❌ **{result.name}**: {cut(result.problem, 500)}{code}"
