"""Renders with whom a sandbox is shared; pure, always within Discord's limits (see `_text`)."""

from __future__ import annotations

import discord

from sandbox_core.manager import Sharing
from sandbox_core.models import Sandbox, ShareAccess

from ._text import FIELD_LIMIT, GREEN, joined

_MAY = {
    ShareAccess.SEE: "see it: its events, its bots' calls and sessions, and its dead letters",
    ShareAccess.USE: "work in it, with credentials of their own: `/sandbox connect` shows them to them alone",
}


def shared(sharing: Sharing, access: ShareAccess) -> discord.Embed:
    """The answer to `share`."""
    name, since = sharing.sandbox.name, "already" if sharing.already else "now"
    embed = discord.Embed(title=f"Sandbox {name} is {since} shared", colour=GREEN)
    embed.description = (
        f"<@{sharing.user_id}> may {_MAY[access]}. They can't share it, change what it is, or destroy it.\n"
        f"`/sandbox unshare` takes that away."
    )
    return add_shares(embed, sharing.sandbox)


def unshared(sharing: Sharing) -> discord.Embed:
    """The answer to `unshare`."""
    embed = discord.Embed(title=f"Sandbox {sharing.sandbox.name} is shared less", colour=GREEN)
    embed.description = (
        f"<@{sharing.user_id}> has no access any more. Credentials of theirs are refused, and their "
        "connections are cut."
    )
    return add_shares(embed, sharing.sandbox)


def add_shares(embed: discord.Embed, sandbox: Sandbox) -> discord.Embed:
    """Add with whom it is shared, if with anybody."""
    if sandbox.shares:
        lines = [f"<@{share.user_id}> ({share.access})" for share in sandbox.shares]
        embed.add_field(name="Shared with", value=joined(lines, FIELD_LIMIT, ", "), inline=False)
    return embed


def share_mark(sandbox: Sandbox, viewer: str) -> str:
    """What a row of a list says about it to this person; "" when there is nothing to say."""
    mine = sandbox.share_of(viewer)
    if mine is not None:
        return f"shared with you ({mine.access})"
    return f"shared with {len(sandbox.shares)}" if sandbox.shares else ""
