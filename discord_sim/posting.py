"""Creates, edits and deletes messages, and dispatches their events."""

from __future__ import annotations

import re
from collections.abc import Iterable

from discord_sim.errors import invalid_form, unknown
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.world.entities import SimChannel, SimUser
from discord_sim.world.message_rules import (
    check_message,
    check_parts,
    complete_components,
    complete_embeds,
)
from discord_sim.world.messages import EPHEMERAL, LOADING, REPLY, SimFile, SimMessage
from discord_sim.world.world import World

# Suppress embeds, ephemeral, suppress notifications, components v2.
SETTABLE_FLAGS = (1 << 2) | EPHEMERAL | (1 << 12) | (1 << 15)
MENTION = re.compile(r"<@!?(\d+)>")

NONCE_SECONDS = 300.0
"""Discord's documentation says "the past few minutes"."""


def send(world: World, channel: SimChannel, author: SimUser, body: Json, files: list[SimFile]) -> SimMessage:
    """Create a message and dispatch its event, or with `enforce_nonce` return the earlier one.

    The earlier one is the same author's with the same nonce in this channel, a few minutes old at most.
    Raises `ApiError` when Discord would refuse the body, or when the earlier one was deleted.
    """
    message = new_message(world, channel, author, body, files)
    if message.nonce is None or not body.get("enforce_nonce"):
        publish(world, message)
        return message
    key = (channel.id, author.id, str(message.nonce))
    now = world.clock()
    sent_at, earlier = world.nonces.get(key, (now, message))
    if earlier is message or now - sent_at > NONCE_SECONDS:
        world.nonces[key] = (now, message)
        publish(world, message)
        return message
    if earlier.deleted:
        raise unknown("Message", 10008)
    return earlier


def new_message(
    world: World,
    channel: SimChannel,
    author: SimUser,
    body: Json,
    files: list[SimFile],
    *,
    prefix: str = "",
) -> SimMessage:
    """Return a message from a request's body, not yet stored or dispatched.

    Raises `ApiError` when Discord would refuse the body.
    """
    check_message(body, files=len(files), prefix=prefix)
    message = SimMessage(
        world.snowflakes.next(), channel, author, tts=bool(body.get("tts")), nonce=body.get("nonce")
    )
    message.cdn_url = world.cdn_url
    message.flags = (body.get("flags") or 0) & SETTABLE_FLAGS
    _fill(world, message, body)
    message.files = _described(files, body.get("attachments"))
    reference = body.get("message_reference")
    if reference:
        message.type = REPLY
        message.reference = _reference(world, channel, reference)
    return message


def publish(world: World, message: SimMessage) -> None:
    """Store a message; dispatches MESSAGE_CREATE."""
    world.store(message)
    world.dispatch("MESSAGE_CREATE", message.event, message.event_guild_id)
    world.changed.notify()


def apply_edit(
    world: World, message: SimMessage, body: Json, files: list[SimFile], *, prefix: str = ""
) -> None:
    """Change the fields in the body; dispatches MESSAGE_UPDATE.

    Raises `ApiError` when Discord would refuse the body.
    """
    check_parts({"flags": message.flags, **body}, prefix=prefix)
    _fill(world, message, body)
    if body.get("flags") is not None:
        message.flags = (message.flags & EPHEMERAL) | (body["flags"] & SETTABLE_FLAGS & ~EPHEMERAL)
    if "attachments" in body:
        kept = {int(a["id"]) for a in body["attachments"] or () if str(a.get("id", "")).isdigit()}
        message.files = [f for f in message.files if f.id in kept]
    message.files += _described(files, body.get("attachments"))
    message.flags &= ~LOADING
    message.edited_at = world.clock()
    message.edits += 1
    world.dispatch("MESSAGE_UPDATE", message.event, message.event_guild_id)
    world.changed.notify()


def delete(world: World, message: SimMessage) -> None:
    """Delete a message; dispatches MESSAGE_DELETE."""
    message.deleted = True
    world.messages.get(message.channel.id, {}).pop(message.id, None)
    guild_id = message.event_guild_id

    def event() -> Json:
        shape: Json = {"id": str(message.id), "channel_id": str(message.channel.id)}
        if guild_id is not None:
            shape["guild_id"] = str(guild_id)
        return shape

    world.dispatch("MESSAGE_DELETE", event, guild_id)
    world.changed.notify()


def _fill(world: World, message: SimMessage, body: Json) -> None:
    if "content" in body:
        message.content = body["content"] or ""
        ids = (int(i) for i in MENTION.findall(message.content))
        message.mentions = [world.users[i] for i in dict.fromkeys(ids) if i in world.users]
    if "embeds" in body:
        message.embeds = complete_embeds(body["embeds"])
    elif body.get("embed"):
        message.embeds = complete_embeds([body["embed"]])
    if "components" in body:
        message.components = complete_components(body["components"])


def _described(files: Iterable[SimFile], attachments: JsonValue) -> list[SimFile]:
    """Return the files with the names and descriptions that the body has by index."""
    named = {str(a.get("id")): a for a in attachments or ()}
    done: list[SimFile] = []
    for number, file in enumerate(files):
        extra = named.get(str(number), {})
        done.append(
            SimFile(
                file.id,
                extra.get("filename") or file.filename,
                file.content,
                file.content_type,
                extra.get("description"),
            )
        )
    return done


def _reference(world: World, channel: SimChannel, reference: Json) -> Json:
    message_id = str(reference.get("message_id"))
    there = world.messages.get(channel.id, {})
    if reference.get("fail_if_not_exists", True) and int(message_id) not in there:
        raise invalid_form("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
    shape: Json = {"type": 0, "channel_id": str(channel.id), "message_id": message_id}
    if channel.guild is not None:
        shape["guild_id"] = str(channel.guild.id)
    return shape
