"""The buttons and menus below an answer. A button's id holds all its data; nothing is kept in memory.

So buttons work after a restart of the bot, need no timer, and leave nothing behind after unloading.
`_presses` recognises a pressed button by its id. An id has at most 100 characters (Discord's developer
documentation, "Message Components", custom id).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import discord

from sandbox_core.models import Sandbox

from ._text import cut

MENU_LIMIT = 25
"""The most options that Discord shows in a menu."""


def below(*items: discord.ui.Item[discord.ui.View]) -> discord.ui.View:
    """Return a view of these items to which discord.py does not listen."""
    view = discord.ui.View(timeout=None)
    for item in items:
        view.add_item(item)
    # discord.py does not keep a finished view in memory. No press is lost: the id is enough.
    view.stop()
    return view


def button(
    label: str,
    custom_id: str,
    style: discord.ButtonStyle = discord.ButtonStyle.secondary,
    *,
    disabled: bool = False,
    row: int | None = None,
) -> discord.ui.Button[discord.ui.View]:
    """Return a button with this id."""
    return discord.ui.Button(label=label, custom_id=custom_id, style=style, disabled=disabled, row=row)


def sandbox_buttons(sandbox_id: UUID, *, row: int | None = None) -> list[discord.ui.Button[discord.ui.View]]:
    """Return the buttons Connect, Register this server, Extend and Destroy."""
    return [
        button("Connect", f"sandbox:connect:{sandbox_id}", discord.ButtonStyle.primary, row=row),
        button("Register this server", f"sandbox:register:{sandbox_id}", row=row),
        button("Extend", f"sandbox:extend:{sandbox_id}", row=row),
        button("Destroy", f"sandbox:destroy:{sandbox_id}", discord.ButtonStyle.danger, row=row),
    ]


def status_buttons(sandbox_id: UUID, *, live: bool = False) -> discord.ui.View:
    """Return the button Refresh, and Stop watching for a message with live updates."""
    items = [button("Refresh", f"sandbox:refresh:{sandbox_id}", discord.ButtonStyle.primary)]
    if live:
        items.append(button("Stop watching", f"sandbox:unwatch:{sandbox_id}"))
    return below(*items)


def sandbox_menu(sandboxes: Sequence[Sandbox], custom_id: str) -> discord.ui.View:
    """Return a menu of sandboxes; the value of an option is the sandbox's id."""
    options = [
        discord.SelectOption(
            label=sandbox.name,
            value=str(sandbox.id),
            description=cut(f"{sandbox.status} · {sandbox.short_id} · {len(sandbox.guild_ids)} servers", 100),
        )
        for sandbox in sandboxes[:MENU_LIMIT]
    ]
    return below(discord.ui.Select(custom_id=custom_id, placeholder="Choose a sandbox", options=options))
