"""What processes tell each other about sessions: where in the stream their numbers are.

A session's id alone would do, by counting from its beginning. But a stream keeps events for minutes, and a
session may last for days.

A client whose connection was cut resumes before that connection's end is seen everywhere. What the older
connection saves then says that the client knows what it never got. So each RESUME begins another life of the
session, and no earlier life saves over it.
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
    uncertain: list[str] = []
    """Servers of which an earlier life does not know whether the client knows them."""
    life: int = 0
    """How often the session was resumed."""

    def mark_for(self, sequence: int) -> tuple[int, int] | None:
        """Return the last mark that is not behind this number."""
        fitting = [mark for mark in self.marks if mark[0] <= sequence]
        return max(fitting, default=None)

    def guilds_at(self, sequence: int) -> set[str]:
        """Return the servers that a client knew before whatever it was told at this number, or later."""
        known = set(self.guilds)
        for each in reversed(self.told):
            if each.sequence >= sequence:
                (known.discard if each.present else known.add)(each.guild_id)
        return known

    def uncertain_at(self, sequence: int) -> set[str]:
        """Return the servers of which a client was told at this number, or later.

        That may have arrived or not. It is told how it is now, whatever that is.
        """
        return {*self.uncertain, *(each.guild_id for each in self.told if each.sequence >= sequence)}


_DECODER = msgspec.json.Decoder(Record)

# The number of the life stands before the JSON.
_SAVE_SCRIPT = """
local had = redis.call('GET', KEYS[1])
if had and tonumber(string.match(had, '^%d+') or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'EX', ARGV[3])
return 1
"""


class Records:
    """Keeps records in the control plane's Redis. Methods raise `DependencyUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def save(self, records: dict[SessionId, Record]) -> list[SessionId]:
        """Save these, in one round trip. Return those that have a later life elsewhere, which stays saved."""
        pipeline = self._redis.pipeline(transaction=False)
        for session, record in records.items():
            key = client_session_key(session.sandbox_id, session.number)
            text = msgspec.json.encode(record).decode()
            pipeline.eval(_SAVE_SCRIPT, 1, key, str(record.life), text, str(KEPT_SECONDS))
        with translating():
            saved: list[int] = await pipeline.execute()
        return [session for session, done in zip(records, saved, strict=True) if not done]

    async def load(self, session: SessionId) -> Record | None:
        """Return what is known of the session; None when that was too long ago."""
        with translating():
            text = await self._redis.get(client_session_key(session.sandbox_id, session.number))
        if text is None:
            return None
        try:
            return _DECODER.decode(str(text).lstrip("0123456789"))
        except msgspec.DecodeError as error:
            raise DependencyUnavailable("Redis", "a session's record can't be read") from error
