"""Extends a sandbox, by the command or by the form that the button opens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import discord

from sandbox_cogs._acknowledge import acknowledged
from sandbox_cogs._core import AnyBot, core_of
from sandbox_cogs._correlation import correlated

from . import _render
from ._access import actor_of
from ._errors import report
from ._once import Once
from ._reply import Answer, answer_anew

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

_FORM = re.compile(r"sandbox:extend:(?P<sandbox>[0-9a-f-]{36}):(?P<opened>[0-9]{17,20})\Z")
_FIELD = "sandbox:duration"

Interaction = discord.Interaction[AnyBot]

_submitted = Once()


async def extend(core: Core, interaction: Interaction, reference: str, duration: str) -> Answer:
    """Extend a sandbox; the answer says when it got less time than asked for."""
    actor = await actor_of(interaction, core.settings)
    return Answer(_render.extended(await core.manager.extend(actor, reference, duration)))


async def open_form(interaction: Interaction, sandbox_id: UUID) -> None:
    """Ask for a duration. The form is the first answer to the press, so nothing is looked up before."""
    form = discord.ui.Modal(
        title="Extend the sandbox", custom_id=f"sandbox:extend:{sandbox_id}:{interaction.id}"
    )
    duration: discord.ui.TextInput[discord.ui.Modal] = discord.ui.TextInput(
        custom_id=_FIELD, default="24h", min_length=1, max_length=20
    )
    form.add_item(
        discord.ui.Label(
            text="How much longer?", description="90m, 24h, 3d, or a number of hours", component=duration
        )
    )
    # As with buttons: discord.py does not keep a finished form in memory, and its id is enough.
    form.stop()
    await acknowledged(interaction, partial(interaction.response.send_modal, form))


async def on_form(interaction: Interaction) -> None:
    """Handle submitted forms of ours; a listener for `on_interaction`. Never raises."""
    if interaction.type is not discord.InteractionType.modal_submit:
        return
    data: Mapping[str, Any] = interaction.data or {}
    match = _FORM.match(str(data.get("custom_id", "")))
    if match is None:
        return
    try:
        core = core_of(interaction.client)
        # The id contains the press that opened the form. A form that is submitted twice extends once.
        if not _submitted.first(match[0]):
            await acknowledged(interaction, interaction.response.defer)
            return
        duration = next(_values(data.get("components", ())), "")
        work = extend(core, interaction, match["sandbox"], duration)
        with correlated(core, "form extend", cause_id=interaction.id, user_id=interaction.user.id):
            begun = await answer_anew(interaction, core, work, changes=True)
        if not begun:
            # Discord keeps a form open until it is acknowledged, so the next submission must count.
            _submitted.forget(match[0])
    except Exception as error:  # the outermost handler: every failure becomes an answer
        await report(interaction, error)


def _values(components: Any) -> Iterator[str]:
    """Yield the texts in the form's fields, at any depth of its layout."""
    for component in components:
        if component.get("custom_id") == _FIELD:
            yield str(component.get("value", ""))
        inner = [component["component"]] if "component" in component else component.get("components", ())
        yield from _values(inner)
