"""What processes tell each other about sessions: where in the stream their numbers are.

A session's id alone would do, by counting from its beginning. But a stream keeps events for minutes, and a
session may last for days.
"""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.redis.errors import translating
from sandbox_core.subjects import client_session_key

from .session_ids import SessionId

KEPT_SECONDS = 600
"""How long a session can be resumed after it was last heard of. Its stream keeps events for less."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The client was told of a server that has come (`present`) or gone, when its number was `sequence`."""

    sequence: int
    guild_id: str
    present: bool


class Record(msgspec.Struct):
    """What is kept of one session."""

    marks: list[tuple[int, int]] = []
    """Numbers of events, each with its event's position in the stream; the newest comes last."""
    guilds: list[str] = []
    """The servers that the client knows."""
    told: list[Told] = []
    """Of the last of these it is not certain that they have arrived."""

    def mark_for(self, sequence: int) -> tuple[int, int] | None:
        """Return the last mark that is not behind this number."""
        fitting = [mark for mark in self.marks if mark[0] <= sequence]
        return max(fitting, default=None)

    def guilds_at(self, sequence: int) -> set[str]:
        """Return the servers that a client surely knows whose last number is this one.

        What it was told at that number, or later, may not have arrived, and is told again.
        """
        known = set(self.guilds)
        for each in reversed(self.told):
            if each.sequence >= sequence:
                (known.discard if each.present else known.add)(each.guild_id)
        return known


_DECODER = msgspec.json.Decoder(Record)


class Records:
    """Keeps records in the control plane's Redis. Methods raise `DependencyUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def save(self, records: dict[SessionId, Record]) -> None:
        """Save these, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for session, record in records.items():
            pipeline.set(
                client_session_key(session.sandbox_id, session.number),
                msgspec.json.encode(record),
                ex=KEPT_SECONDS,
            )
        with translating():
            await pipeline.execute()

    async def load(self, session: SessionId) -> Record | None:
        """Return what is known of the session; None when that was too long ago."""
        with translating():
            text = await self._redis.get(client_session_key(session.sandbox_id, session.number))
        if text is None:
            return None
        try:
            return _DECODER.decode(text)
        except msgspec.DecodeError as error:
            raise DependencyUnavailable("Redis", "a session's record can't be read") from error
