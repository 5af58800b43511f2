"""Renders a sandbox's events as Discord embeds and files; pure, always within Discord's limits."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import discord

from sandbox_core.models import Sandbox
from sandbox_core.subjects import is_guild_id
from sandbox_core.words import counted, storable
from sandbox_core.workbench.as_json import Json, as_json, parsed
from sandbox_core.workbench.scrubbing.tokens import without_tokens
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.summary import Names, who, words

from ._text import AMBER, BLUE, DESCRIPTION_LIMIT, GREEN, cut, relative

SHOWN = 15
"""How many events a message shows; also with the longest lines they fit, and a menu has 25 options."""
FILE_NAME = "events.json"
_FILE_BYTES = 4_000_000
"""Less than Discord takes from any bot."""
_LINE_LIMIT, _NAME_LIMIT, _OPTION_LIMIT = 240, 40, 100
_JSON_LIMIT = 3000


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a sandbox's events has found."""

    sandbox: Sandbox
    events: Sequence[SeenEvent]
    """The oldest first."""
    names: Names
    here: str | None
    """The server where the answer is shown: there a channel is a link."""
    event_type: str = ""
    """The only type that is asked for; "" for all."""
    missed: int = 0
    remade: bool = False


def listing(
    look: Look, *, until: datetime | None = None, ended: bool = False, not_followed: bool = False
) -> discord.Embed:
    """The answer to `events`: one line for each, the newest last.

    `until` is the end of live updates, `ended` says that they are over, `not_followed` that too many messages
    are kept up to date already.
    """
    title = f"Events of {look.sandbox.name}" + (f", only {look.event_type}" if look.event_type else "")
    said = []
    if until is not None:
        said.append(f"This message is kept up to date; that ends {relative(until)}.")
    if ended:
        said.append("It is kept up to date no more: `/sandbox events` with `follow` begins again.")
    if not_followed:
        said.append("Too many messages are being kept up to date already; this one is not.")
    if look.remade:
        said.append("⚠️ The sandbox's stream was made anew: what was in it before is gone.")
    if look.missed:
        missed = counted(look.missed, "event was", "events were")
        said.append(f"⚠️ Missed: at most {missed} removed, or came too fast, before the bot could read them.")
    lines = [_line(event, look) for event in look.events]
    if not lines:
        lines = ["There are none now. A sandbox keeps its events for five minutes."]
    text = "\n".join([*said, *([""] if said else []), *lines])
    colour = BLUE if until is None else GREEN
    return discord.Embed(title=title, description=cut(text, DESCRIPTION_LIMIT), colour=colour)


def options(look: Look, birth: int) -> list[discord.SelectOption]:
    """An option for each event, the newest first; its value names it also after the bot's restart."""
    return [
        discord.SelectOption(
            label=cut(" · ".join(part for part in (event.type, _flat(who(event))) if part), _OPTION_LIMIT),
            value=f"{birth}:{event.id}",
            description=cut(_flat(words(event)) or f"number {event.id}", _OPTION_LIMIT),
        )
        for event in reversed(look.events)
    ]


def one(event: SeenEvent, look: Look) -> tuple[discord.Embed, discord.File]:
    """One event, with what Discord sent, and a file with all of it."""
    safe = _without_tokens(event)
    value = parsed(safe.frame)
    text = json.dumps(value, indent=2, ensure_ascii=False) if value is not None else "no JSON"
    # Three backticks would end the block.
    shown = cut(storable(text).replace("```", "`\u200b``"), _JSON_LIMIT)
    embed = discord.Embed(title=f"{event.type} in {look.sandbox.name}", colour=BLUE)
    embed.description = f"```json\n{shown}\n```"
    embed.add_field(name="Stored", value=discord.utils.format_dt(event.stored_at, "T"))
    embed.add_field(name="Where", value=_where(event, look) or "no server")
    embed.add_field(name="Who", value=_who(event) or "nobody")
    embed.add_field(name="Number", value=f"`{event.id}`")
    embed.add_field(name="Size", value=counted(len(event.frame), "byte", "bytes"))
    if event.origin:
        embed.add_field(name="Origin", value=_escaped(event.origin))
    return embed, _file([_object(event, safe, look.names)])


def as_file(look: Look) -> tuple[discord.Embed, discord.File]:
    """The events as JSON; the oldest are left out when they would be too much for Discord."""
    objects: list[Json] = []
    size = 0
    for event in reversed(look.events):
        size += len(event.frame) * 2 + 1000
        if size > _FILE_BYTES and objects:
            break
        objects.append(_object(event, _without_tokens(event), look.names))
    objects.reverse()
    count = counted(len(objects), "event", "events")
    embed = discord.Embed(title=f"{count} of {look.sandbox.name}", colour=BLUE)
    embed.description = f"`{FILE_NAME}` has them, with their headers. Tokens in them are left out."
    if (left := len(look.events) - len(objects)) > 0:
        embed.description += f" The {left} oldest are too large to be in it."
    return embed, _file(objects)


def replayed(sandbox: Sandbox, stored: Sequence[int], of: int, trouble: str = "") -> discord.Embed:
    """The answer to *Replay*; `trouble` says why only some of them are stored again."""
    count = counted(len(stored), "event", "events")
    if trouble:
        embed = discord.Embed(title=f"{len(stored)} of {of} replayed into {sandbox.name}", colour=AMBER)
        embed.description = f"Then it ended: {trouble}"
        return embed
    embed = discord.Embed(title=f"{count} replayed into {sandbox.name}", colour=GREEN)
    numbers = ", ".join(f"`{number}`" for number in stored)
    embed.description = (
        f"Its workers and ordinary bots get them like any other, under new message ids; their numbers are "
        f"{numbers}, and their header `Sandbox-Origin` is `replayed`."
    )
    return embed


def _line(event: SeenEvent, look: Look) -> str:
    said = _escaped(words(event))
    person = _who(event)
    parts = [
        discord.utils.format_dt(event.stored_at, "T"),
        f"`{event.type}`",
        _where(event, look),
        f"{person}:" if person and said else person,
        said,
        f"({event.origin})" if event.origin else "",
    ]
    return cut(" ".join(part for part in parts if part), _LINE_LIMIT)


def _where(event: SeenEvent, look: Look) -> str:
    channel, name = event.channel_id or "", look.names.channels.get(event.channel_id or "")
    if is_guild_id(channel) and (event.guild_id == look.here or name is None):
        channel = f"<#{channel}>"
    else:
        channel = _escaped(channel) if name is None else f"#{_escaped(name)}"
    several = len(look.sandbox.guild_ids) > 1 or not channel
    guild = _escaped(look.names.guild(event.guild_id)) if several else ""
    return " ".join(part for part in (guild, channel) if part)


def _who(event: SeenEvent) -> str:
    name = who(event)
    # Discord shows a mention by name, to whoever may see the person.
    return f"<@{name}>" if name == event.user.get("id") and is_guild_id(name) else _escaped(name)


def _escaped(text: str) -> str:
    short = cut(_flat(text), _NAME_LIMIT * 2)
    return discord.utils.escape_markdown(discord.utils.escape_mentions(short)).replace("<", "\\<")


def _flat(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in storable(text)).strip()


def _without_tokens(event: SeenEvent) -> SeenEvent:
    # A file in Discord is passed on easily, and an interaction's token is good for fifteen minutes.
    return replace(event, frame=without_tokens(event.frame, event.type))


def _object(event: SeenEvent, safe: SeenEvent, names: Names) -> Json:
    return {**as_json(safe, names), "bytes": len(event.frame)}


def _file(objects: Sequence[Json]) -> discord.File:
    text = json.dumps(list(objects), indent=2, ensure_ascii=False)
    # Half a surrogate pair becomes an escape again, as it was in the frame.
    content = text.encode("utf-8", "backslashreplace")
    return discord.File(io.BytesIO(content), filename=FILE_NAME)
