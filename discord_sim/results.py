"""What a person sees after a command, a button or a form."""

from __future__ import annotations

from collections.abc import Callable

from discord_sim.errors import SimError, SimTimeout
from discord_sim.interactions import (
    CALLBACK_DEFER,
    CALLBACK_DEFER_UPDATE,
    CALLBACK_UPDATE,
    Interaction,
)
from discord_sim.jsontypes import Json
from discord_sim.world.messages import SimFile, SimMessage
from discord_sim.world.world import World


class InteractionResult:
    """The bot's answer to an interaction; it shows later edits and follow-ups."""

    def __init__(self, world: World, interaction: Interaction) -> None:
        self.interaction = interaction
        self._world = world

    def __repr__(self) -> str:
        return f"<InteractionResult {self.interaction.name!r} {self.text!r}>"

    @property
    def message(self) -> SimMessage:
        """The answer, or the message that a click updated.

        Raises `SimError` when there is none, because the answer was a form or only choices.
        """
        message = self.interaction.message
        if message is None:
            raise SimError(f"{self.interaction.name!r} was not answered with a message")
        return message

    @property
    def message_id(self) -> int | None:
        """Id of `message`, or None."""
        message = self.interaction.message
        return None if message is None else message.id

    @property
    def ephemeral(self) -> bool:
        """Whether only the person who asked sees the answer."""
        message = self.interaction.message
        return message is not None and message.ephemeral

    @property
    def deferred(self) -> bool:
        """Whether the first answer was only an acknowledgement."""
        return self.interaction.callback_type in (CALLBACK_DEFER, CALLBACK_DEFER_UPDATE)

    @property
    def updated(self) -> bool:
        """Whether the answer changed the message with the component."""
        interaction = self.interaction
        return interaction.callback_type in (CALLBACK_UPDATE, CALLBACK_DEFER_UPDATE)

    @property
    def answered(self) -> bool:
        """Whether there is more to see than an acknowledgement."""
        return self.interaction.answered

    @property
    def content(self) -> str:
        """Text of the answer."""
        message = self.interaction.message
        return "" if message is None else message.content

    @property
    def embeds(self) -> list[Json]:
        """Embeds of the answer."""
        message = self.interaction.message
        return [] if message is None else message.embeds

    @property
    def components(self) -> list[Json]:
        """Components of the answer."""
        message = self.interaction.message
        return [] if message is None else message.components

    @property
    def files(self) -> list[SimFile]:
        """Files of the answer."""
        message = self.interaction.message
        return [] if message is None else message.files

    @property
    def buttons(self) -> list[Json]:
        """Buttons of the answer in reading order."""
        message = self.interaction.message
        return [] if message is None else message.buttons()

    @property
    def modal(self) -> Json | None:
        """The form the bot opened, or None."""
        return self.interaction.modal

    @property
    def followups(self) -> list[SimMessage]:
        """The follow-up messages so far."""
        return self.interaction.followups

    @property
    def responded_in_seconds(self) -> float:
        """Seconds from the interaction to the first answer, by the simulator's clock."""
        answered = self.interaction.answered_at
        return float("inf") if answered is None else answered - self.interaction.opened_at

    @property
    def text(self) -> str:
        """All visible text of the answer and its follow-ups."""
        message = self.interaction.message
        messages = [] if message is None else [message]
        return "\n".join(m.text for m in [*messages, *self.followups] if m.text)

    async def wait_until(
        self, condition: Callable[[InteractionResult], bool], timeout: float = 30.0
    ) -> InteractionResult:
        """Wait for later edits or follow-ups until the condition is true.

        Raises `SimTimeout` after `timeout` seconds.
        """
        if not await self._world.changed.wait_for(lambda: condition(self), timeout):
            raise SimTimeout(f"condition not met in {timeout} s; visible: {self.text!r}")
        return self
