"""The view of a gateway frame that routing needs, read without decoding the rest.

A dispatch frame is `{"t": event, "s": sequence, "op": 0, "d": {...}}` (Discord's developer
documentation, "Gateway Events", payload structure). Its bytes are kept as they came.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Literal

import msgspec

from sandbox_core.strangers import UNREADABLE

from .hints import Hints, pick_hints, read_hints
from .owner_command import read_owner_command
from .shallow import shallow
from .table import GUILD_LOCATIONS, GuildLocation, guild_location

DISPATCH = 0

_OWN_COMMAND = "sandbox"
_OWN_COMPONENT_PREFIX = "sandbox:"
_COMMAND_INTERACTIONS = frozenset({2, 4})  # APPLICATION_COMMAND and its autocomplete
_COMPONENT_INTERACTIONS = frozenset({3, 5})  # MESSAGE_COMPONENT and MODAL_SUBMIT


_NAMED_BY_ITS_ID = frozenset(
    event for event, location in GUILD_LOCATIONS.items() if location is GuildLocation.OWN_ID
)
_READ_WITH_CARE = frozenset(
    event
    for event, location in GUILD_LOCATIONS.items()
    if location in {GuildLocation.META, GuildLocation.NONE} or event == "INTERACTION_CREATE"
)


class FrameError(ValueError):
    """The bytes are not a gateway frame."""


# A structure is made without running Python code; nothing in it refers back, so the collector may pass it by.
class Frame(msgspec.Struct, gc=False, eq=False):
    """One frame as received. `raw` is what Discord sent, after decompression, byte for byte."""

    raw: bytes
    op: int
    type: str
    """The event name, or "" when the frame is no dispatch."""
    seq: int
    """The session's sequence number, or -1 when the frame is no dispatch."""
    received_at: float
    """When the frame was read, in seconds of the monotonic clock."""
    guild_id: str | None = None
    guild_id_unreadable: bool = False
    """A guild id stands at its place but is no snowflake, or is missing where it always is."""
    attributed_to: str | None = None
    """The guild of an event that names none, found by its channel or interaction; the router sets it."""
    hints: Hints | None = None
    """What tells whose the event is when it could have a guild and has none."""
    is_own_interaction: bool = False
    """An interaction of the bot's own `/sandbox` commands or components."""
    is_owner_command: bool = False
    """A direct message in which an owner of the bot gives it a command."""
    decided: Any = None
    """Its `Destination`, once somebody was told who handles events beside the router, which keeps to it."""

    def __repr__(self) -> str:
        return f"<Frame op={self.op} type={self.type!r} seq={self.seq} guild_id={self.guild_id}>"


class _PlainData(msgspec.Struct, gc=False):
    guild_id: str | None = None
    id: str | None = None


# Nearly every dispatch: its event is known, its guild's id is a string, and one pass over the JSON finds it.
# The event's name is then the one that stands here, and is not made anew.
_PlainEnvelope: Any = msgspec.defstruct(
    "_PlainEnvelope",
    [
        ("op", Literal[0]),
        ("d", _PlainData),
        ("s", int),
        ("t", Literal.__getitem__(tuple(sorted(GUILD_LOCATIONS.keys() - _READ_WITH_CARE)))),
    ],
    gc=False,
)


class _Envelope(msgspec.Struct, gc=False):
    op: int
    d: msgspec.Raw = msgspec.Raw(b"null")
    s: int | None = None
    t: str | None = None


# A raw field takes any JSON value only when its type is nothing but `Raw`.
_NULL = msgspec.Raw(b"null")


class _AtGuildId(msgspec.Struct, gc=False):
    guild_id: msgspec.Raw = _NULL


class _AtId(msgspec.Struct, gc=False):
    id: msgspec.Raw = _NULL


class _AtMeta(msgspec.Struct, gc=False):
    meta: _AtGuildId | None = None


class _InteractionData(msgspec.Struct, gc=False):
    name: str | None = None
    custom_id: str | None = None


class _Interaction(msgspec.Struct, gc=False):
    type: int = 0
    guild_id: msgspec.Raw = _NULL
    data: _InteractionData | None = None


class _Author(msgspec.Struct, gc=False):
    id: str = ""


class _DirectMessage(msgspec.Struct, gc=False):
    author: _Author | None = None
    content: str = ""


_plain_envelope = msgspec.json.Decoder(_PlainEnvelope).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_at_guild_id = msgspec.json.Decoder(_AtGuildId).decode
_at_id = msgspec.json.Decoder(_AtId).decode
_at_meta = msgspec.json.Decoder(_AtMeta).decode
_interaction = msgspec.json.Decoder(_Interaction).decode
_direct_message = msgspec.json.Decoder(_DirectMessage).decode


def read_frame(raw: bytes, received_at: float, owner_ids: Collection[str] = ()) -> Frame:
    """Read what routing needs from `raw`. Raises `FrameError` when it is no gateway frame.

    `owner_ids` are the users whose direct messages may be commands.
    """
    try:
        plain = _plain_envelope(raw)
    except UNREADABLE:
        return _read_any(raw, received_at, owner_ids)
    event = plain.t
    guild_id = plain.d.id if event in _NAMED_BY_ITS_ID else plain.d.guild_id
    if guild_id is not None and guild_id.isdigit() and guild_id.isascii():
        return Frame(raw, DISPATCH, event, plain.s, received_at, guild_id)
    return _read_any(raw, received_at, owner_ids)


def _read_any(raw: bytes, received_at: float, owner_ids: Collection[str]) -> Frame:
    try:
        envelope = _envelope(raw)
        if envelope.op != DISPATCH:
            return Frame(raw, envelope.op, "", -1, received_at)
        if envelope.t is None or envelope.s is None:
            raise FrameError("a dispatch without event name or sequence number")
        frame = Frame(raw, DISPATCH, envelope.t, envelope.s, received_at)
        _read_data(frame, envelope.d, owner_ids)
    except UNREADABLE:
        # The strict decoder refuses what Python's accepts (a lone surrogate in a message, a `d` that is
        # a list), and what is nested too deep: such a frame is rare, and still has to be routed.
        return _read_leniently(raw, received_at, owner_ids)
    return frame


def _read_data(frame: Frame, data: msgspec.Raw, owner_ids: Collection[str]) -> None:
    if frame.type == "INTERACTION_CREATE":
        interaction = _interaction(data)
        _set_guild_id(frame, _plain(interaction.guild_id), GuildLocation.OPTIONAL)
        content = interaction.data
        if content is not None:
            frame.is_own_interaction = is_own_interaction(interaction.type, content.name, content.custom_id)
        return
    location = guild_location(frame.type)
    if location is GuildLocation.NONE:
        return
    if location is GuildLocation.OWN_ID:
        found = _at_id(data).id
    elif location is GuildLocation.META:
        meta = _at_meta(data).meta
        found = _NULL if meta is None else meta.guild_id
    else:
        found = _at_guild_id(data).guild_id
    _set_guild_id(frame, _plain(found), location)
    if _may_be_somebodys(frame, location):
        frame.hints = read_hints(frame.type, data)
    if owner_ids and _is_direct_message(frame):
        message = _direct_message(data)
        if message.author is not None:
            command = read_owner_command(message.author.id, message.content, owner_ids)
            frame.is_owner_command = command is not None


def _may_be_somebodys(frame: Frame, location: GuildLocation) -> bool:
    guildless = frame.guild_id is None and not frame.guild_id_unreadable
    return guildless and location is GuildLocation.OPTIONAL


def _is_direct_message(frame: Frame) -> bool:
    return frame.type == "MESSAGE_CREATE" and frame.guild_id is None and not frame.guild_id_unreadable


def _plain(raw: msgspec.Raw) -> object:
    return msgspec.json.decode(raw)


def _set_guild_id(frame: Frame, value: object, location: GuildLocation) -> None:
    if value is None:
        frame.guild_id_unreadable = location is not GuildLocation.OPTIONAL
    elif isinstance(value, str) and value.isascii() and value.isdigit():
        frame.guild_id = value
    elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
        frame.guild_id = str(value)
    else:
        frame.guild_id_unreadable = True


def is_own_interaction(kind: int, name: object, custom_id: object) -> bool:
    """True for an interaction of our commands or components: its type, its command's name, its custom id."""
    if kind in _COMMAND_INTERACTIONS:
        return name == _OWN_COMMAND
    if kind in _COMPONENT_INTERACTIONS:
        return isinstance(custom_id, str) and custom_id.startswith(_OWN_COMPONENT_PREFIX)
    return False


def _loaded(raw: bytes) -> Any:
    # Where routing looks nothing is that deep, and how deep a parser goes differs from Python to Python.
    return json.loads(shallow(raw).decode(errors="replace"))


def _read_leniently(raw: bytes, received_at: float, owner_ids: Collection[str]) -> Frame:
    try:
        # Bytes that are no UTF-8 say nothing of the guild, and the frame is somebody's all the same.
        envelope = _loaded(raw)
    except (ValueError, RecursionError) as error:
        raise FrameError("not JSON") from error
    if not isinstance(envelope, dict) or not isinstance(envelope.get("op"), int):
        raise FrameError("not a gateway payload")
    if envelope["op"] != DISPATCH:
        return Frame(raw, envelope["op"], "", -1, received_at)
    event_type, seq, data = envelope.get("t"), envelope.get("s"), envelope.get("d")
    if not isinstance(event_type, str) or not isinstance(seq, int):
        raise FrameError("a dispatch without event name or sequence number")
    frame = Frame(raw, DISPATCH, event_type, seq, received_at)
    _read_data_leniently(frame, data if isinstance(data, dict) else {}, owner_ids)
    return frame


def _read_data_leniently(frame: Frame, data: dict[str, Any], owner_ids: Collection[str]) -> None:
    location = guild_location(frame.type)
    if location is GuildLocation.NONE:
        return
    if location is GuildLocation.OWN_ID:
        value = data.get("id")
    elif location is GuildLocation.META:
        meta = data.get("meta")
        value = meta.get("guild_id") if isinstance(meta, dict) else None
    else:
        value = data.get("guild_id")
    _set_guild_id(frame, value, location)
    if frame.type != "INTERACTION_CREATE" and _may_be_somebodys(frame, location):
        frame.hints = pick_hints(frame.type, data)
    if frame.type == "INTERACTION_CREATE" and isinstance(data.get("data"), dict):
        kind = data.get("type")
        content = data["data"]
        if isinstance(kind, int):
            frame.is_own_interaction = is_own_interaction(kind, content.get("name"), content.get("custom_id"))
    if owner_ids and _is_direct_message(frame) and isinstance(data.get("author"), dict):
        author_id, text = data["author"].get("id"), data.get("content")
        if isinstance(author_id, str) and isinstance(text, str):
            frame.is_owner_command = read_owner_command(author_id, text, owner_ids) is not None
