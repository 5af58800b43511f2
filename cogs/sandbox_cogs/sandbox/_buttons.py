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

_EVENT_MENU = "sandbox:event:"
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


def events_buttons(
    sandbox_id: UUID, *, live: bool, options: Sequence[discord.SelectOption] | None, event_type: str
) -> discord.ui.View:
    """Return what is below a list of events: a menu of them, Refresh, Replay, JSON, and Stop following."""
    items: list[discord.ui.Item[discord.ui.View]] = []
    if options:
        menu = f"{_EVENT_MENU}{sandbox_id}"
        items.append(
            discord.ui.Select(custom_id=menu, placeholder="Look at one of them", options=list(options))
        )
    refresh = f"sandbox:events:{sandbox_id}:{event_type}"
    items.append(button("Refresh", refresh, discord.ButtonStyle.primary))
    if options:
        label = "Replay it" if len(options) == 1 else f"Replay these {len(options)}"
        items += [
            button(label, f"sandbox:replay:{sandbox_id}"),
            button("JSON", f"sandbox:eventsjson:{sandbox_id}"),
        ]
    if live:
        items.append(button("Stop following", f"sandbox:unfollow:{sandbox_id}:{event_type}"))
    return below(*items)


def event_buttons(sandbox_id: UUID, chosen: str) -> discord.ui.View:
    """Return the button Replay below one event."""
    replay = f"sandbox:replay:{sandbox_id}:{chosen}"
    return below(button("Replay", replay, discord.ButtonStyle.primary))


def events_below(message: discord.Message | None) -> list[str]:
    """Return the values of the events that a message shows, the newest first, by its menu."""
    rows = [] if message is None else message.components
    return [
        option.value
        for row in rows
        if isinstance(row, discord.ActionRow)
        for item in row.children
        if isinstance(item, discord.SelectMenu) and (item.custom_id or "").startswith(_EVENT_MENU)
        for option in item.options
    ]
