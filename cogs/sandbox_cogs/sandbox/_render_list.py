"""Renders the pages of the list of sandboxes; pure, always within Discord's limits."""

from __future__ import annotations

from collections.abc import Sequence

import discord

from sandbox_core.models import Sandbox
from sandbox_core.words import counted

from ._render_share import share_mark
from ._text import (
    BLUE,
    DESCRIPTION_LIMIT,
    STATUS_LOOK,
    joined,
    owner_label,
    relative,
)

PAGE_ROWS = 10


def page_count(sandboxes: Sequence[Sandbox]) -> int:
    """Return the number of pages; an empty list has one page."""
    return max(1, -(-len(sandboxes) // PAGE_ROWS))


def listing(
    sandboxes: Sequence[Sandbox], *, filtered: bool = False, page: int = 1, viewer: str = ""
) -> discord.Embed:
    """Return one page, counted from 1; a number beyond the last page shows the last page.

    `viewer` is who reads it.
    """
    pages = page_count(sandboxes)
    page = min(max(page, 1), pages)
    title = counted(len(sandboxes), "sandbox", "sandboxes")
    embed = discord.Embed(title=title, colour=BLUE)
    if sandboxes:
        rows = [_row(sandbox, viewer) for sandbox in sandboxes[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]]
        embed.description = joined(rows, DESCRIPTION_LIMIT, "\n")
    elif filtered:
        embed.title = "No sandbox matches"
        embed.description = "`/sandbox list` without filters shows every live one."
    else:
        embed.title = "There are no sandboxes"
        embed.description = "`/sandbox create` makes one in about a second."
    if pages > 1:
        embed.set_footer(text=f"Page {page} of {pages}")
    return embed


def _row(sandbox: Sandbox, viewer: str) -> str:
    end = sandbox.destroyed_at
    fate = f"destroyed {relative(end)}" if end is not None else f"expires {relative(sandbox.expires_at)}"
    mark = share_mark(sandbox, viewer)
    return (
        f"{STATUS_LOOK[sandbox.status][0]} **{sandbox.name}** · {sandbox.status} · `{sandbox.short_id}`\n"
        f"\u2003{owner_label(sandbox)} · {counted(len(sandbox.guild_ids), 'server', 'servers')} · {fate}"
        f"{f' · {mark}' if mark else ''}"
    )
