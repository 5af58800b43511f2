"""Interactions, and the bot's answers to them.

Rules (developer documentation, "Receiving and Responding"): the first answer must come within 3 seconds, and
only once; the token is valid for 15 minutes; the first follow-up after a deferral completes the deferred
message.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from discord_sim.errors import ApiError, invalid_form, unknown
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.posting import apply_edit, delete, new_message, publish
from discord_sim.world import shapes
from discord_sim.world.entities import SimChannel, SimUser
from discord_sim.world.message_rules import check_message
from discord_sim.world.messages import (
    CHAT_INPUT_COMMAND,
    EPHEMERAL,
    LOADING,
    SimFile,
    SimMessage,
)
from discord_sim.world.permissions import ALL
from discord_sim.world.world import World

COMMAND, COMPONENT, AUTOCOMPLETE, MODAL = 2, 3, 4, 5
ANSWER_SECONDS = 3.0
TOKEN_SECONDS = 15 * 60.0

CALLBACK_MESSAGE, CALLBACK_DEFER, CALLBACK_DEFER_UPDATE, CALLBACK_UPDATE = 4, 5, 6, 7
CALLBACK_CHOICES, CALLBACK_MODAL = 8, 9
ALLOWED_CALLBACKS = {
    COMMAND: {CALLBACK_MESSAGE, CALLBACK_DEFER, CALLBACK_MODAL},
    COMPONENT: {
        CALLBACK_MESSAGE,
        CALLBACK_DEFER,
        CALLBACK_DEFER_UPDATE,
        CALLBACK_UPDATE,
        CALLBACK_MODAL,
    },
    AUTOCOMPLETE: {CALLBACK_CHOICES},
    MODAL: {CALLBACK_MESSAGE, CALLBACK_DEFER, CALLBACK_DEFER_UPDATE, CALLBACK_UPDATE},
}


@dataclass(eq=False)
class Interaction:
    """One interaction with all answers of the bot."""

    id: int
    type: int
    token: str
    user: SimUser
    channel: SimChannel
    opened_at: float
    name: str
    source: SimMessage | None = None
    source_edits: int = 0
    cause: Json | None = None
    callback_type: int | None = None
    answered_at: float | None = None
    original: SimMessage | None = None
    modal: Json | None = None
    choices: list[Json] = field(default_factory=list)
    followups: list[SimMessage] = field(default_factory=list)

    @property
    def message(self) -> SimMessage | None:
        """The message `@original`: the answer, or the updated message."""
        if self.callback_type in (CALLBACK_DEFER_UPDATE, CALLBACK_UPDATE):
            return self.source
        return self.original

    @property
    def answered(self) -> bool:
        """Whether the person sees an answer, an update or a form, not only an acknowledgement."""
        if self.callback_type == CALLBACK_DEFER:
            return self.original is not None and (self.original.deleted or not self.original.loading)
        if self.callback_type == CALLBACK_DEFER_UPDATE:
            source = self.source
            changed = source is not None and (source.deleted or source.edits > self.source_edits)
            return changed or bool(self.followups)
        return self.callback_type is not None

    def metadata(self) -> Json:
        """Return the `interaction_metadata` of messages that answer this interaction."""
        guild = self.channel.guild
        owners = {"0": "0" if guild is None else str(guild.id)}
        shape: Json = {
            "id": str(self.id),
            "type": self.type,
            "user": shapes.user(self.user),
            "authorizing_integration_owners": owners,
        }
        if self.type == COMMAND:
            shape["name"] = self.name
        if self.type == COMPONENT and self.source is not None:
            shape["interacted_message_id"] = str(self.source.id)
        if self.type == MODAL:
            shape["triggering_interaction_metadata"] = self.cause
        return shape


class InteractionDesk:
    """Keeps all interactions by id and by token, and handles the bot's answers."""

    def __init__(self, world: World) -> None:
        self.by_id: dict[int, Interaction] = {}
        self._by_token: dict[str, Interaction] = {}
        self._world = world

    def open(
        self,
        kind: int,
        user: SimUser,
        channel: SimChannel,
        data: Json,
        *,
        name: str,
        source: SimMessage | None = None,
        cause: Json | None = None,
    ) -> tuple[Interaction, Json]:
        """Create an interaction. Return it, and the `d` of its INTERACTION_CREATE."""
        interaction = Interaction(
            self._world.snowflakes.next(),
            kind,
            secrets.token_urlsafe(48),
            user,
            channel,
            self._world.clock(),
            name,
            source,
            0 if source is None else source.edits,
            cause,
        )
        self.by_id[interaction.id] = interaction
        self._by_token[interaction.token] = interaction
        return interaction, self._event(interaction, data)

    def _event(self, interaction: Interaction, data: Json) -> Json:
        channel, user, guild = interaction.channel, interaction.user, interaction.channel.guild
        event: Json = {
            "id": str(interaction.id),
            "application_id": str(self._world.application_id),
            "type": interaction.type,
            "token": interaction.token,
            "version": 1,
            "data": data,
            "channel_id": str(channel.id),
            "channel": shapes.channel(channel),
            "locale": "en-US",
            "entitlements": [],
            "entitlement_sku_ids": [],
            "attachment_size_limit": 10 * 1024 * 1024,
            "authorizing_integration_owners": {"0": "0" if guild is None else str(guild.id)},
        }
        if guild is None:
            event |= {"user": shapes.user(user), "context": 1, "app_permissions": str(ALL)}
        else:
            member = guild.members[user.id]
            event["channel"]["permissions"] = str(member.permissions)
            event |= {
                "guild_id": str(guild.id),
                "guild": {"id": str(guild.id), "locale": "en-US", "features": []},
                "guild_locale": "en-US",
                "member": {**shapes.member(member), "permissions": str(member.permissions)},
                "context": 0,
                "app_permissions": str(guild.members[self._world.bot.id].permissions),
            }
        if interaction.source is not None:
            event["message"] = interaction.source.rest()
        return event

    def callback(self, interaction_id: int, token: str, body: Json, files: list[SimFile]) -> Interaction:
        """Handle the bot's first answer.

        Raises `ApiError`: 10062 for an unknown or too old interaction, 40060 for a second answer, 50035 for
        an invalid answer.
        """
        interaction = self.by_id.get(interaction_id)
        now = self._world.clock()
        if interaction is None or interaction.token != token:
            raise unknown("interaction", 10062)
        if interaction.callback_type is not None:
            raise ApiError(400, 40060, "Interaction has already been acknowledged.")
        if now - interaction.opened_at > ANSWER_SECONDS:
            raise unknown("interaction", 10062)
        kind, data = body.get("type"), body.get("data") or {}
        allowed = ALLOWED_CALLBACKS[interaction.type]
        if not isinstance(kind, int) or kind not in allowed:
            raise invalid_form("type", "BASE_TYPE_CHOICES", f"Value must be one of {sorted(allowed)}.")
        if kind in (CALLBACK_DEFER_UPDATE, CALLBACK_UPDATE) and interaction.source is None:
            raise invalid_form(
                "type", "INTERACTION_APPLICATION_COMMAND_INVALID_TYPE", "There is no message to update"
            )
        self._act(interaction, kind, data, files)
        interaction.callback_type = kind
        interaction.answered_at = now
        self._world.changed.notify()
        return interaction

    def _act(self, interaction: Interaction, kind: int, data: Json, files: list[SimFile]) -> None:
        if kind == CALLBACK_MESSAGE:
            interaction.original = self._post(interaction, data, files, prefix="data.")
        elif kind == CALLBACK_DEFER:
            interaction.original = self._loading(interaction, data)
        elif kind == CALLBACK_UPDATE and interaction.source is not None:
            apply_edit(self._world, interaction.source, data, files, prefix="data.")
        elif kind == CALLBACK_CHOICES:
            interaction.choices = _checked_choices(data.get("choices"))
        elif kind == CALLBACK_MODAL:
            interaction.modal = _checked_modal(data)

    def by_token(self, application_id: int, token: str) -> Interaction:
        """Return the interaction in a follow-up's path.

        Raises `ApiError`: 10015 for another application or an interaction without a first answer, 50027 for a
        wrong or expired token.
        """
        if application_id != self._world.application_id:
            raise unknown("Webhook", 10015)
        interaction = self._by_token.get(token)
        if interaction is None or self._world.clock() - interaction.opened_at > TOKEN_SECONDS:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        if interaction.callback_type is None:
            raise unknown("Webhook", 10015)
        return interaction

    def follow_up(self, interaction: Interaction, body: Json, files: list[SimFile]) -> SimMessage:
        """Add a message; the first one completes a deferred answer."""
        original = interaction.original
        if original is not None and original.loading and not original.deleted:
            check_message(body, files=len(files))
            flags = ((body.get("flags") or 0) & ~EPHEMERAL) | (original.flags & EPHEMERAL)
            apply_edit(self._world, original, {**body, "flags": flags}, files)
            return original
        message = self._post(interaction, body, files)
        interaction.followups.append(message)
        self._world.changed.notify()
        return message

    def find(self, interaction: Interaction, name: str) -> SimMessage:
        """Return `@original` or another message of the interaction. Raises `ApiError` 404 (10008)."""
        candidates = [interaction.message, interaction.original, *interaction.followups]
        for message in candidates if name != "@original" else candidates[:1]:
            if message is not None and not message.deleted and name in ("@original", str(message.id)):
                return message
        raise unknown("Message", 10008)

    def edit(self, interaction: Interaction, name: str, body: Json, files: list[SimFile]) -> SimMessage:
        """Edit one of the interaction's messages."""
        message = self.find(interaction, name)
        apply_edit(self._world, message, body, files)
        return message

    def delete(self, interaction: Interaction, name: str) -> None:
        """Delete one of the interaction's messages."""
        delete(self._world, self.find(interaction, name))

    def _post(
        self, interaction: Interaction, body: Json, files: list[SimFile], *, prefix: str = ""
    ) -> SimMessage:
        message = new_message(self._world, interaction.channel, self._world.bot, body, files, prefix=prefix)
        self._mark(interaction, message)
        publish(self._world, message)
        return message

    def _loading(self, interaction: Interaction, data: Json) -> SimMessage:
        message = SimMessage(self._world.snowflakes.next(), interaction.channel, self._world.bot)
        message.cdn_url = self._world.cdn_url
        message.flags = LOADING | ((data.get("flags") or 0) & EPHEMERAL)
        self._mark(interaction, message)
        publish(self._world, message)
        return message

    def _mark(self, interaction: Interaction, message: SimMessage) -> None:
        message.application_id = self._world.application_id
        message.interaction_metadata = interaction.metadata()
        if interaction.original is not None:
            message.interaction_metadata["original_response_message_id"] = str(interaction.original.id)
        elif interaction.type == COMMAND:
            message.type = CHAT_INPUT_COMMAND


def _checked_choices(choices: JsonValue) -> list[Json]:
    path = "data.choices"
    if not isinstance(choices, list) or len(choices) > 25:
        raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", "Must be between 0 and 25 in length.")
    for number, choice in enumerate(choices):
        if not 1 <= len(str(choice.get("name") or "")) <= 100:
            raise invalid_form(
                f"{path}.{number}.name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length."
            )
        value = choice.get("value")
        if value is None or (isinstance(value, str) and not 1 <= len(value) <= 100):
            raise invalid_form(
                f"{path}.{number}.value", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length."
            )
    return list(choices)


def _checked_modal(data: Json) -> Json:
    limits = {"title": 45, "custom_id": 100}
    for key, limit in limits.items():
        if not 1 <= len(data.get(key) or "") <= limit:
            raise invalid_form(
                f"data.{key}", "BASE_TYPE_BAD_LENGTH", f"Must be between 1 and {limit} in length."
            )
    if not 1 <= len(data.get("components") or []) <= 5:
        raise invalid_form("data.components", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length.")
    return data
