"""Routes for interaction callbacks and the follow-up webhook; both have a token in the path."""

from __future__ import annotations

from discord_sim.interactions import CALLBACK_MESSAGE, CALLBACK_UPDATE, Interaction
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.rest.routing import NO_CONTENT, Call, RouteTable

ROUTES = RouteTable()
MESSAGES = "/webhooks/{webhook_id}/{webhook_token}/messages"


@ROUTES.add("POST", "/interactions/{interaction_id}/{interaction_token}/callback", auth=False)
async def interaction_callback(call: Call) -> JsonValue:
    """Take the first answer to an interaction."""
    interaction = call.backend.desk.callback(
        call.id("interaction_id"), call.params["interaction_token"], call.json(), call.files
    )
    return _callback_response(interaction) if call.flag("with_response") else NO_CONTENT


@ROUTES.add("POST", "/webhooks/{webhook_id}/{webhook_token}", auth=False)
async def follow_up(call: Call) -> JsonValue:
    """Take a follow-up message."""
    message = call.backend.desk.follow_up(_interaction(call), call.json(), call.files)
    return message.rest()


@ROUTES.add("GET", MESSAGES + "/@original", auth=False)
@ROUTES.add("GET", MESSAGES + "/{message_id}", auth=False)
async def get_response(call: Call) -> JsonValue:
    """Return the answer, or a follow-up."""
    return call.backend.desk.find(_interaction(call), _which(call)).rest()


@ROUTES.add("PATCH", MESSAGES + "/@original", auth=False)
@ROUTES.add("PATCH", MESSAGES + "/{message_id}", auth=False)
async def edit_response(call: Call) -> JsonValue:
    """Edit the answer, or a follow-up."""
    desk = call.backend.desk
    return desk.edit(_interaction(call), _which(call), call.json(), call.files).rest()


@ROUTES.add("DELETE", MESSAGES + "/@original", auth=False)
@ROUTES.add("DELETE", MESSAGES + "/{message_id}", auth=False)
async def delete_response(call: Call) -> JsonValue:
    """Delete the answer, or a follow-up."""
    call.backend.desk.delete(_interaction(call), _which(call))
    return NO_CONTENT


def _interaction(call: Call) -> Interaction:
    return call.backend.desk.by_token(call.id("webhook_id"), call.params["webhook_token"])


def _which(call: Call) -> str:
    return call.params.get("message_id", "@original")


def _callback_response(interaction: Interaction) -> Json:
    about: Json = {
        "id": str(interaction.id),
        "type": interaction.type,
        "channel_id": str(interaction.channel.id),
    }
    if interaction.channel.guild is not None:
        about["guild_id"] = str(interaction.channel.guild.id)
    message = interaction.message
    response: Json = {"interaction": about}
    if message is not None:
        about["response_message_id"] = str(message.id)
        about["response_message_loading"] = message.loading
        about["response_message_ephemeral"] = message.ephemeral
        # Discord's OpenAPI has a resource only for answers with content.
        if interaction.callback_type in (CALLBACK_MESSAGE, CALLBACK_UPDATE):
            response["resource"] = {"type": interaction.callback_type, "message": message.rest()}
    return response
