"""The question before a sandbox is destroyed. Everything it needs is in its buttons' ids.

So the question survives a restart of the bot, needs no timer, and leaves nothing behind when unloaded.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from datetime import timedelta
from typing import Any, ClassVar, Literal, Self
from uuid import UUID

import discord

from cogs._core import AnyBot, core_of
from sandbox_core.errors import CleanupFailed, NotPermitted
from sandbox_core.models import Sandbox, short_id

from . import _render
from ._access import actor_of
from ._errors import report
from ._reply import Answer, answer_button

QUESTION_LIFE = timedelta(minutes=10)
"""After this a question is answered with "too old": what it listed may have changed."""

DESTROY_SECONDS = 30.0
"""How long a destruction may take. Each of its steps has a limit of its own, and these add up to less."""

Choice = Literal["yes", "no"]
Interaction = discord.Interaction[AnyBot]

_TEMPLATE = (
    r"sandbox:destroy:(?P<choice>yes|no):(?P<caller>[0-9]{17,20}):"
    r"(?P<sandbox>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)


def destroy_buttons(sandbox: Sandbox, caller_id: int) -> discord.ui.View:
    """The two buttons below the question; only `caller_id` may press them."""
    # A finished view is not kept in memory: the pressed button is recognised by its id.
    view = discord.ui.View(timeout=None)
    for choice in ("yes", "no"):
        view.add_item(DestroyButton(choice, sandbox.id, caller_id))
    view.stop()
    return view


class _Once:
    """Remembers which questions were answered, so that a double click acts once."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._seen: OrderedDict[tuple[int, UUID], None] = OrderedDict()

    def first(self, message_id: int, sandbox_id: UUID) -> bool:
        """True for the first answer to this message about this sandbox."""
        question = (message_id, sandbox_id)
        if question in self._seen:
            return False
        self._seen[question] = None
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return True


class DestroyButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=_TEMPLATE):
    """One of the two buttons; its id names the choice, the caller and the sandbox."""

    _answered: ClassVar[_Once] = _Once()

    def __init__(self, choice: Choice, sandbox_id: UUID, caller_id: int) -> None:
        destroys = choice == "yes"
        super().__init__(
            discord.ui.Button(
                label="Destroy it" if destroys else "Keep it",
                style=discord.ButtonStyle.danger if destroys else discord.ButtonStyle.secondary,
                custom_id=f"sandbox:destroy:{choice}:{caller_id}:{sandbox_id}",
            )
        )
        self._choice = choice
        self._sandbox_id = sandbox_id
        self._caller_id = caller_id

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: re.Match[str]
    ) -> Self:
        """The button that a pressed component was."""
        choice: Choice = "yes" if match["choice"] == "yes" else "no"
        return cls(choice, UUID(match["sandbox"]), int(match["caller"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Destroy the sandbox or keep it; the first press of the two buttons counts."""
        if interaction.user.id != self._caller_id:
            await report(interaction, NotPermitted("answer this question", "the person who was asked"))
            return
        message = interaction.message
        if message is None or not self._answered.first(message.id, self._sandbox_id):
            await interaction.response.defer()
            return
        if self._choice == "no":
            await self._close(interaction, "You kept the sandbox.")
        elif interaction.created_at - message.created_at > QUESTION_LIFE:
            await self._close(interaction, "The question is too old; run `/sandbox destroy` again.")
        else:
            short = short_id(self._sandbox_id)
            await answer_button(
                interaction,
                self._destroy(interaction),
                meanwhile=_render.destroying(short),
                budget=DESTROY_SECONDS,
                late=CleanupFailed(
                    short, "waiting for the stores", f"no answer in {DESTROY_SECONDS:g} seconds"
                ),
            )

    async def _close(self, interaction: Interaction, reason: str) -> None:
        await interaction.response.edit_message(embed=_render.kept(reason), view=None)

    async def _destroy(self, interaction: Interaction) -> Answer:
        core = core_of(interaction.client)
        actor = await actor_of(interaction, core.settings)
        return Answer(_render.destroyed(await core.manager.destroy(actor, str(self._sandbox_id))))
