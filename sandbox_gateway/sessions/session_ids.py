"""A session's id: signed, and with what any process needs to go on with the session.

Events are numbered by counting those of the stream that the session gets. So a number and a position in the
stream are enough to find the position of every later number.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from uuid import UUID

from sandbox_core.credentials import CredentialsKey

_FIELDS = struct.Struct(">16sI8sIHHIQQB")
_SIGNATURE = 16


@dataclass(frozen=True, slots=True)
class SessionId:
    """What a session is from its IDENTIFY on."""

    sandbox_id: UUID
    credentials: int
    """The number of the credentials that it was begun with."""
    number: str
    """16 hexadecimal digits by which it is told from others."""
    intents: int
    shard: int
    shard_count: int
    sequence: int
    """The number of the last event of its beginning, READY and one for each server."""
    birth: int
    """Which stream it is: when that was made, in microseconds since the epoch."""
    position: int
    """The stream's last event before its beginning."""
    large_threshold: int
    """From how many members on a server is a large one to the client, 50 to 250."""


class SessionIds:
    """Makes and reads ids; all processes with the same key read each other's."""

    def __init__(self, key: CredentialsKey) -> None:
        self._key = key.secret("client sessions")

    def write(self, session: SessionId) -> str:
        """Return the id."""
        body = _FIELDS.pack(
            session.sandbox_id.bytes,
            session.credentials,
            bytes.fromhex(session.number),
            session.intents,
            session.shard,
            session.shard_count,
            session.sequence,
            session.birth,
            session.position,
            session.large_threshold,
        )
        return base64.urlsafe_b64encode(body + self._sign(body)).decode()

    def read(self, text: str) -> SessionId | None:
        """Read an id; None for one that was not made here."""
        try:
            raw = base64.urlsafe_b64decode(text.encode("ascii"))
        except (binascii.Error, ValueError):
            return None
        # Python reads many spellings of the same bytes.
        if base64.urlsafe_b64encode(raw).decode() != text:
            return None
        body, signature = raw[:-_SIGNATURE], raw[-_SIGNATURE:]
        if len(body) != _FIELDS.size or not hmac.compare_digest(signature, self._sign(body)):
            return None
        sandbox, credentials, number, *rest = _FIELDS.unpack(body)
        return SessionId(UUID(bytes=sandbox), credentials, number.hex(), *rest)

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_SIGNATURE]
