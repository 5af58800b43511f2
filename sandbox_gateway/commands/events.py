"""Gives a client the ids of commands that it knows, in the events about their use and their permissions."""

from __future__ import annotations

from typing import Any

import msgspec

from sandbox_core.postgres.commands import Key

_COMMAND, _AUTOCOMPLETE = 2, 4
_CHANGED = "APPLICATION_COMMAND_PERMISSIONS_UPDATE"


class _Data(msgspec.Struct):
    id: str
    name: str
    type: int = 1


class _Interaction(msgspec.Struct):
    type: int
    guild_id: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Permissions(msgspec.Struct):
    id: str
    guild_id: str


class _Frame(msgspec.Struct):
    t: str
    s: int
    op: int
    d: msgspec.Raw


class Use(msgspec.Struct):
    """The use of a command in a server, or a change of who may use it there."""

    guild_id: str
    command_id: str
    """Discord's id."""
    key: Key | None
    """None where the event does not say it."""


_FRAME = msgspec.json.Decoder(_Frame)
_INTERACTION = msgspec.json.Decoder(_Interaction)
_PERMISSIONS = msgspec.json.Decoder(_Permissions)
_DATA = msgspec.json.Decoder(_Data)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def use_in(frame: bytes) -> Use | None:
    """Return which command an event is about; None for none, or a form that is not known."""
    try:
        read = _FRAME.decode(frame)
        if read.t == _CHANGED:
            changed = _PERMISSIONS.decode(read.d)
            return Use(changed.guild_id, changed.id, None)
        found = _INTERACTION.decode(read.d)
        if found.type not in {_COMMAND, _AUTOCOMPLETE} or found.guild_id is None:
            return None
        data = _DATA.decode(found.data)
    except msgspec.DecodeError:
        return None
    return Use(found.guild_id, data.id, (data.type, data.name))


def with_command(frame: bytes, command_id: str, guild_id: str | None) -> bytes:
    """Return the frame with the bot's id of the command, and the server of which it registered it, if of one.

    Everything else in it stays as Discord sent it.
    """
    read = _FRAME.decode(frame)
    d: dict[str, Any] = dict(_FIELDS.decode(read.d))
    if read.t == _CHANGED:
        d["id"] = command_id
        read.d = msgspec.Raw(msgspec.json.encode(d))
        return msgspec.json.encode(read)
    data: dict[str, Any] = dict(_FIELDS.decode(d["data"]))
    data["id"] = command_id
    data.pop("guild_id", None)
    if guild_id is not None:
        data["guild_id"] = guild_id
    d["data"] = msgspec.Raw(msgspec.json.encode(data))
    read.d = msgspec.Raw(msgspec.json.encode(d))
    return msgspec.json.encode(read)
