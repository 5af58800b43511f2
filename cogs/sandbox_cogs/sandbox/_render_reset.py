"""Renders the question and the answer about a reset; pure, always within Discord's limits."""

from __future__ import annotations

import discord

from sandbox_core import subjects
from sandbox_core.manager import Changed
from sandbox_core.models import Sandbox

from ._text import AMBER, FIELD_LIMIT, GREEN, GuildNames, guild_label, joined


def question(sandbox: Sandbox, names: GuildNames) -> discord.Embed:
    """The question of `reset`: it lists everything that will be deleted, and what stays."""
    embed = discord.Embed(title=f"Reset the sandbox {sandbox.name}?", colour=AMBER)
    embed.description = "This can't be undone. It deletes:"
    deleted = {
        "PostgreSQL": f"every table and row in the schema `{sandbox.schema_name}`",
        "Redis": f"every key under `{subjects.redis_prefix(sandbox.id)}`",
        "NATS": f"every event and dead letter on `{subjects.sandbox_filter(sandbox.id)}`",
    }
    for store, what in deleted.items():
        embed.add_field(name=store, value=what, inline=False)
    embed.add_field(name="It begins anew", value=f"{_beginning(sandbox)}.", inline=False)
    kept = (
        "Its credentials, level and expiry. A worker's connections to PostgreSQL and Redis end, and it may "
        "connect again."
    )
    embed.add_field(name="What stays", value=kept, inline=False)
    if sandbox.guild_ids:
        labels = [guild_label(guild_id, names) for guild_id in sandbox.guild_ids]
        embed.add_field(
            name="Servers that stay registered", value=joined(labels, FIELD_LIMIT, "\n"), inline=False
        )
    return embed


def done(changed: Changed) -> discord.Embed:
    """The answer after a reset."""
    sandbox = changed.sandbox
    text = f"It has begun anew {_beginning(sandbox)}. Its servers' events go to it as before."
    return discord.Embed(title=f"Sandbox {sandbox.name} is empty again", description=text, colour=GREEN)


def _beginning(sandbox: Sandbox) -> str:
    return f"with the template `{sandbox.template}`" if sandbox.template else "with the default tables"
