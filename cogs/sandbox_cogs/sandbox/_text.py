"""Builds the small texts in embeds; pure, always within Discord's limits.

Limits in Discord's developer documentation (channel resource, "Embed Limits"): title 256, description
4096, 25 fields, field name 256, field value 1024, footer 2048, and 6000 characters altogether.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import discord

from sandbox_core.manager import Changed
from sandbox_core.models import Sandbox, SandboxStatus
from sandbox_core.namespaces import PartState
from sandbox_core.switch_text import unconfirmed_text

TITLE_LIMIT = 256
DESCRIPTION_LIMIT = 4096
FIELD_LIMIT = 1024

GREEN = discord.Colour(0x2E9E5B)
BLUE = discord.Colour(0x3B7DD8)
AMBER = discord.Colour(0xD9912B)
RED = discord.Colour(0xC8453B)
GREY = discord.Colour(0x7A7F87)

STATUS_LOOK: Mapping[SandboxStatus, tuple[str, discord.Colour]] = {
    SandboxStatus.PENDING: ("🔵", BLUE),
    SandboxStatus.CREATING: ("🔵", BLUE),
    SandboxStatus.RUNNING: ("🟢", GREEN),
    SandboxStatus.EXPIRED: ("🟠", AMBER),
    SandboxStatus.DESTROYING: ("🟠", AMBER),
    SandboxStatus.DESTROYED: ("⚫", GREY),
}
"""A mark and a colour for each status; the text always shows the word, too."""

HEALTH_LOOK: Mapping[PartState, tuple[str, discord.Colour]] = {
    PartState.HEALTHY: ("🟢", GREEN),
    PartState.DEGRADED: ("🟠", AMBER),
    PartState.UNHEALTHY: ("🔴", RED),
}

GuildNames = Mapping[str, str]
"""The known names of guilds, by id."""


def choice_label(sandbox: Sandbox) -> str:
    """A sandbox in an autocomplete list; at most 100 characters, Discord's limit."""
    return cut(f"{sandbox.name} · {sandbox.status} · {sandbox.owner_name}", 100)


def guild_label(guild_id: str, names: GuildNames) -> str:
    """A guild's name if known, and its id."""
    name = names.get(guild_id)
    if not name:
        return f"`{guild_id}`"
    return f"**{discord.utils.escape_markdown(discord.utils.escape_mentions(name))}** (`{guild_id}`)"


def owner_label(sandbox: Sandbox) -> str:
    """The sandbox's owner: a mention, or a name when the owner is no Discord user."""
    # The command line may act for owners that are not Discord users.
    if sandbox.owner.isascii() and sandbox.owner.isdigit():
        return f"<@{sandbox.owner}>"
    return discord.utils.escape_markdown(cut(sandbox.owner_name, 64))


def add_unconfirmed(embed: discord.Embed, changed: Changed) -> discord.Embed:
    """Add a warning to the embed when a gateway process has not confirmed the change."""
    text = unconfirmed_text(changed.unconfirmed)
    if text:
        warning = discord.utils.escape_markdown(cut(text, FIELD_LIMIT // 2))
        embed.add_field(name="⚠️ Not everywhere yet", value=warning, inline=False)
    return embed


def moment(when: datetime) -> str:
    """A Discord timestamp with date and time, in each reader's own time zone."""
    return discord.utils.format_dt(when, "f")


def relative(when: datetime) -> str:
    """A Discord timestamp such as "in 3 hours"."""
    return discord.utils.format_dt(when, "R")


def joined(lines: Iterable[str], limit: int, separator: str) -> str:
    """Join the lines that fit into `limit` characters, and add how many more there are."""
    everything = list(lines)
    text = separator.join(everything)
    if len(text) <= limit:
        return text
    shown: list[str] = []
    room = limit - len(f"{separator}… and {len(everything)} more")
    for line in everything:
        room -= len(line) + len(separator)
        if room < 0:
            break
        shown.append(line)
    return separator.join([*shown, f"… and {len(everything) - len(shown)} more"])


def cut(text: str, limit: int) -> str:
    """The text, shortened to at most `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
