"""Routes for channels and their messages."""

from __future__ import annotations

from discord_sim.errors import ApiError
from discord_sim.jsontypes import JsonValue
from discord_sim.posting import apply_edit, delete, send
from discord_sim.rest.routing import NO_CONTENT, Call, RouteTable
from discord_sim.world import shapes

ROUTES = RouteTable()


@ROUTES.add("GET", "/channels/{channel_id}")
async def get_channel(call: Call) -> JsonValue:
    """Return a channel."""
    return shapes.channel(call.channel())


@ROUTES.add("POST", "/channels/{channel_id}/typing")
async def typing(call: Call) -> JsonValue:
    """Accept the typing indicator; it dispatches no event."""
    call.channel()
    return NO_CONTENT


@ROUTES.add("GET", "/channels/{channel_id}/messages")
async def list_messages(call: Call) -> JsonValue:
    """Return messages, newest first; `before` and `after` work as in Discord."""
    channel = call.channel()
    messages = [
        m
        for m in call.backend.world.messages.get(channel.id, {}).values()
        if not m.deleted and not m.ephemeral
    ]
    before, after = call.query.get("before"), call.query.get("after")
    if before is not None:
        messages = [m for m in messages if m.id < int(before)]
    if after is not None:
        messages = [m for m in messages if m.id > int(after)]
    messages.sort(key=lambda m: m.id, reverse=True)
    limit = call.number("limit", 50, 100)
    chosen = messages[-limit:] if after is not None else messages[:limit]
    return [m.rest() for m in chosen]


@ROUTES.add("POST", "/channels/{channel_id}/messages")
async def create_message(call: Call) -> JsonValue:
    """Send a message as the bot; dispatches MESSAGE_CREATE, unless an enforced nonce was used before."""
    world = call.backend.world
    return send(world, call.channel(), world.bot, call.json(), call.files).rest()


@ROUTES.add("GET", "/channels/{channel_id}/messages/{message_id}")
async def get_message(call: Call) -> JsonValue:
    """Return a message."""
    return call.message().rest()


@ROUTES.add("PATCH", "/channels/{channel_id}/messages/{message_id}")
async def edit_message(call: Call) -> JsonValue:
    """Edit one of the bot's own messages; dispatches MESSAGE_UPDATE."""
    message = call.message()
    if message.author is not call.backend.world.bot:
        raise ApiError(403, 50005, "Cannot edit a message authored by another user")
    apply_edit(call.backend.world, message, call.json(), call.files)
    return message.rest()


@ROUTES.add("DELETE", "/channels/{channel_id}/messages/{message_id}")
async def delete_message(call: Call) -> JsonValue:
    """Delete a message; dispatches MESSAGE_DELETE."""
    message = call.message()
    if message.channel.guild is None and message.author is not call.backend.world.bot:
        raise ApiError(403, 50003, "Cannot execute action on a DM channel")
    delete(call.backend.world, message)
    return NO_CONTENT
