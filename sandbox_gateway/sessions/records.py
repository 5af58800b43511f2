"""What processes tell each other about sessions: where in the stream their numbers are, and who has them.

A session's id alone would do, by counting from its beginning. But a stream keeps events for minutes, and a
session may last for days.

A session has one connection, its holder. A RESUME takes it over, at whatever process; what had it before
finds that out when it saves, and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from redis.asyncio import Redis

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.namespaces.client_traces import KEPT_SECONDS
from sandbox_core.redis.errors import translating
from sandbox_core.subjects import HOLDER_DIGITS, NO_HOLDER, client_session_key

from .session_ids import SessionId

_KEPT_MS = KEPT_SECONDS * 1000

# For each key: its holder, and what to write; "" only asks. Returns the places of those that others have.
_SAVE_SCRIPT = """
local taken = {}
for place, key in ipairs(KEYS) do
  local holder, text = ARGV[2 * place], ARGV[2 * place + 1]
  local found = redis.call('GET', key)
  if found and string.sub(found, 1, #holder) ~= holder then
    taken[#taken + 1] = place
  elseif text ~= '' then
    redis.call('SET', key, holder .. text, 'PX', ARGV[1])
  end
end
return taken
"""
# Written without a holder, or removed with "", by its holder only.
_LEAVE_SCRIPT = """
local found = redis.call('GET', KEYS[1])
if not found or string.sub(found, 1, #ARGV[2]) ~= ARGV[2] then return end
if ARGV[3] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1]) end
"""


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
    """Servers of which an earlier connection does not know whether the client knows them."""
    library: str = ""
    """As the client calls it. `client_traces` reads this, and the marks, for `status`."""

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


@dataclass(frozen=True, slots=True)
class Held:
    """A session with the connection that has it."""

    session: SessionId
    holder: str
    """16 characters, of one connection."""
    record: Record | None = None
    """None: as it was saved before."""

    @property
    def key(self) -> str:
        """Its key."""
        return client_session_key(self.session.sandbox_id, self.session.number)

    @property
    def text(self) -> str:
        """The record; empty without one."""
        return "" if self.record is None else msgspec.json.encode(self.record).decode()


class Records:
    """Keeps records in the control plane's Redis. Methods raise `DependencyUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._save = redis.register_script(_SAVE_SCRIPT)
        self._leave = redis.register_script(_LEAVE_SCRIPT)

    async def save(self, held: Sequence[Held]) -> list[Held]:
        """Save these, in one round trip. Return those that another connection has; they are not saved."""
        arguments: list[str | int] = [_KEPT_MS]
        for each in held:
            arguments += [each.holder, each.text]
        with translating():
            taken = await self._save([each.key for each in held], arguments)
        return [held[place - 1] for place in taken]

    async def take(self, held: Held) -> None:
        """Save it as this connection's, whoever had it."""
        with translating():
            await self._redis.set(held.key, held.holder + held.text, px=_KEPT_MS)

    async def leave(self, held: Held) -> None:
        """Note that its connection has ended; without a record it can't be resumed any more."""
        text = "" if held.record is None else NO_HOLDER + held.text
        with translating():
            await self._leave([held.key], [_KEPT_MS, held.holder, text])

    async def load(self, session: SessionId) -> Record | None:
        """Return what is known of the session; None when that was too long ago."""
        with translating():
            text = await self._redis.get(client_session_key(session.sandbox_id, session.number))
        if text is None:
            return None
        try:
            return _DECODER.decode(text[HOLDER_DIGITS:])
        except msgspec.DecodeError as error:
            raise DependencyUnavailable("Redis", "a session's record can't be read") from error
