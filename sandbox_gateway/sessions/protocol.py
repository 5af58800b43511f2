"""The words of Discord's gateway: opcodes, close codes, and what clients send.

From Discord's developer documentation, "Gateway", "Gateway Events" and "Opcodes and Status Codes".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from sandbox_core.strangers import UNREADABLE

LONGEST = 4096
"""The most bytes of what a client may send at once."""
HEARTBEAT_MS = 41_250
_LIBRARY = 32
"""The most characters that are kept of a library's name."""


class Op(IntEnum):
    """Opcodes."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE = 3
    VOICE_STATE = 4
    RESUME = 6
    RECONNECT = 7
    REQUEST_MEMBERS = 8
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11
    REQUEST_SOUNDS = 31
    REQUEST_CHANNEL_INFO = 43


class CloseCode(IntEnum):
    """Close codes."""

    RECONNECT = 4000
    UNKNOWN_OP = 4001
    DECODE_ERROR = 4002
    NOT_AUTHENTICATED = 4003
    AUTHENTICATION_FAILED = 4004
    ALREADY_AUTHENTICATED = 4005
    INVALID_SEQUENCE = 4007
    RATE_LIMITED = 4008
    SESSION_TIMED_OUT = 4009
    INVALID_SHARD = 4010
    SHARDING_REQUIRED = 4011
    INVALID_VERSION = 4012
    INVALID_INTENTS = 4013
    DISALLOWED_INTENTS = 4014


class Closing(Exception):
    """Ends a connection with a code; the reason is for the client's log and ours."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FromClient(msgspec.Struct):
    """One payload of a client."""

    op: int
    d: msgspec.Raw = msgspec.Raw(b"null")


class Identify(msgspec.Struct):
    """The `d` of IDENTIFY."""

    token: str
    intents: int | None = None
    large_threshold: int | None = None
    shard: tuple[int, int] | None = None
    properties: msgspec.Raw = msgspec.Raw(b"{}")
    """What the library says of itself: of any form, and never a reason to refuse."""

    @property
    def library(self) -> str:
        """The library's name, as it says; "" when it does not."""
        try:
            said = msgspec.json.decode(self.properties)
        except UNREADABLE:
            return ""
        names = [said.get(key) for key in ("browser", "$browser")] if isinstance(said, dict) else []
        name = next((each for each in names if isinstance(each, str)), "")
        return "".join(filter(str.isprintable, name))[:_LIBRARY]


class Resume(msgspec.Struct):
    """The `d` of RESUME."""

    token: str
    session_id: str
    seq: int


class RequestMembers(msgspec.Struct):
    """The `d` of op 8; discord.py sends the server's id as a number."""

    guild_id: str | int
    query: str | None = None
    limit: int = 0
    presences: bool = False
    user_ids: str | int | list[str | int] | None = None
    nonce: str | None = None


class RequestSounds(msgspec.Struct):
    """The `d` of op 31."""

    guild_ids: list[str | int]


# The second one for what is nested too deeply.
_UNREADABLE = (msgspec.DecodeError, RecursionError)
_FROM_CLIENT = msgspec.json.Decoder(FromClient)


def read(data: str | bytes) -> FromClient:
    """Read what a client has sent. Raises `Closing`."""
    if len(data) > LONGEST:
        raise Closing(CloseCode.DECODE_ERROR, f"a payload is at most {LONGEST} bytes")
    try:
        return _FROM_CLIENT.decode(data)
    except _UNREADABLE:
        raise Closing(CloseCode.DECODE_ERROR, "this is no payload in JSON") from None


def read_body(data: msgspec.Raw, kind: Any) -> Any:
    """Read a payload's `d`. Raises `Closing`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except _UNREADABLE:
        raise Closing(CloseCode.DECODE_ERROR, "this operation has another body") from None


def operation(op: Op, body: object = None) -> bytes:
    """Return a payload that is no event."""
    return msgspec.json.encode({"t": None, "s": None, "op": op, "d": body})


def dispatch(event: str, sequence: int, body: bytes) -> bytes:
    """Return an event of our own; `body` is JSON."""
    return b'{"t":"%b","s":%d,"op":0,"d":%b}' % (event.encode(), sequence, body)
