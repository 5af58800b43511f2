"""How a gateway connection ends, and what has to follow.

From Discord's developer documentation, "Opcodes and Status Codes" (gateway close event codes) and "Gateway"
(resuming): after some close codes nothing may be tried again, after 4007 and 4009 the session is gone, and
after everything else, also after no close code at all, it can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

ABNORMAL = 1006
"""What stands for "no close code came" (RFC 6455, 7.1.5)."""

KEEPS_SESSION = 4000
"""Closing with this code leaves the session to be resumed; 1000 and 1001 end it."""

_SESSION_ENDING_OF_OURS = frozenset({1000, 1001})
REFUSALS: Mapping[int, str] = {
    4004: "Discord refused the token: DISCORD_TOKEN takes the bot's present token.",
    4010: "Discord refused the shards: DISCORD_SHARD_IDS takes numbers below DISCORD_SHARD_COUNT.",
    4011: (
        "Discord demands more shards: set DISCORD_SHARD_COUNT higher, or to nothing for its recommendation."
    ),
    4012: "Discord no longer speaks this version of its gateway: install a newer release.",
    4013: "Discord does not know the intents: install a newer release.",
    4014: (
        "Discord refused the intents: turn on in the application's settings (Bot, Privileged Gateway "
        "Intents) those that DISCORD_PRIVILEGED_INTENTS names, or name fewer there."
    ),
}
"""The close codes after which nothing may be tried again, each with what the operator has to do."""
_SESSION_LOST = frozenset({4007, 4009})


class Ending(Enum):
    """Why a connection is over."""

    CLOSED = "closed"
    """Discord closed it, or the network did."""
    RECONNECT = "reconnect"
    """Discord asked for it (op 7)."""
    INVALID = "invalid session"
    """Discord does not take the session, or an IDENTIFY (op 9)."""
    SILENT = "silent"
    """A heartbeat was not acknowledged before the next was due."""
    GARBLED = "garbled"
    """What came could not be decompressed."""
    HELD_BACK = "held back"
    """The router stayed full for longer than the socket may stay unread."""


class ConnectionEndedError(Exception):
    """A gateway connection is over; its shard decides what follows."""

    def __init__(self, ending: Ending, *, code: int | None = None, session_lost: bool = False) -> None:
        super().__init__(ending.value if code is None else f"{ending.value} with code {code}")
        self.ending = ending
        self.code = code
        self.session_lost = session_lost or code in _SESSION_LOST
        """True when Discord says that the session can't be resumed."""


class GatewayRefusedError(Exception):
    """Discord closed a connection with a code after which nothing may be tried again."""

    def __init__(self, code: int) -> None:
        super().__init__(f"close code {code}")
        self.code = code


def closed(code: int | None) -> Exception:
    """What a connection that was closed with this code raises; None when no code came."""
    if code is not None and code in REFUSALS:
        return GatewayRefusedError(code)
    return ConnectionEndedError(Ending.CLOSED, code=ABNORMAL if code is None else code)


def resumable_code(code: int) -> int:
    """The code to close with instead of `code`, so that the session goes on."""
    return KEEPS_SESSION if code in _SESSION_ENDING_OF_OURS else code
