"""Gateway sessions: sequence numbers, the replay buffer, and which session gets which event."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable

from discord_sim.connection import Connection
from discord_sim.frames import PLAIN_MIDDLE, Frame, Payload
from discord_sim.jsontypes import Json
from discord_sim.snowflake import Clock, shard_of


class GatewaySession:
    """One session, which may have several connections one after the other.

    Without a connection its events still get numbers and wait in the replay buffer; a RESUME sends those that
    the client has not seen. `ended_at` is the time of its final end (seconds since the Unix epoch, by the
    simulator's clock), and `ended_connected` says whether a client was connected then.
    """

    def __init__(
        self, *, shard: int, shard_count: int, intents: int, identify: Json, replay_limit: int
    ) -> None:
        self.session_id = secrets.token_hex(16)
        self.shard = shard
        self.shard_count = shard_count
        self.intents = intents
        self.identify = identify
        self.sequence = 0
        self.sent_count = 0
        self.alive = True
        self.connection: Connection | None = None
        self.last_heartbeat_sequence: int | None = None
        self.heartbeats = 0
        self.last_client_close: int | None = None
        self.resume_count = 0
        self.resumed_from: list[int] = []
        self.disconnected_at: float | None = None
        self.ended_at: float | None = None
        self.ended_connected = False
        self._replay: deque[Frame] = deque(maxlen=replay_limit)
        self._forgotten_through = 0

    def __repr__(self) -> str:
        state = "connected" if self.connected else ("resumable" if self.alive else "dead")
        return f"<GatewaySession {self.session_id[:8]} shard={self.shard} s={self.sequence} {state}>"

    @property
    def connected(self) -> bool:
        """Whether a client is connected now."""
        return self.connection is not None

    @property
    def replayable(self) -> int:
        """The number of frames in the replay buffer."""
        return len(self._replay)

    def send(self, payload: Payload, middle: bytes = PLAIN_MIDDLE) -> Frame:
        """Number an event, keep it for replay, and send it when a client is connected."""
        self.sequence += 1
        frame = Frame(self, self.sequence, payload, middle)
        replay = self._replay
        if len(replay) == replay.maxlen:
            self._forgotten_through = replay[0].seq if replay else frame.seq
        replay.append(frame)
        self.sent_count += 1
        if self.connection is not None:
            self.connection.send_frame(frame)
        return frame

    def send_own(self, payload: Payload) -> Frame:
        """Send READY or RESUMED. They get a number, but belong to the connection and are never replayed."""
        self.sequence += 1
        frame = Frame(self, self.sequence, payload, PLAIN_MIDDLE)
        if self.connection is not None:
            self.connection.send_frame(frame)
        return frame

    def forget(self) -> None:
        """Empty the replay buffer of a session that has ended."""
        self._replay.clear()
        self._forgotten_through = self.sequence

    def missed_since(self, sequence: int) -> list[Frame] | None:
        """Return the frames after `sequence`, or None when the buffer no longer has all of them."""
        if sequence < self._forgotten_through:
            return None
        return [frame for frame in self._replay if frame.seq > sequence]


class SessionHub:
    """Keeps all sessions, and dispatches events to those of the right shard.

    `replay_limit` is the number of frames that a session keeps for replay. `session_ttl` is the seconds in
    which a disconnected session can be resumed; Discord says "a few minutes". With `record` every dispatched
    frame is kept in `sent`.
    """

    def __init__(self, clock: Clock, *, replay_limit: int, session_ttl: float, record: bool) -> None:
        self.sessions: list[GatewaySession] = []
        self.sent: list[Frame] = []
        self.record = record
        self.session_ttl = session_ttl
        # Grows when the set of living sessions changes; a flood then renews its table of targets.
        self.version = 0
        self._clock = clock
        self._replay_limit = replay_limit

    def open(self, *, shard: int, shard_count: int, intents: int, identify: Json) -> GatewaySession:
        """Create a session, after IDENTIFY."""
        session = GatewaySession(
            shard=shard,
            shard_count=shard_count,
            intents=intents,
            identify=identify,
            replay_limit=self._replay_limit,
        )
        self.sessions.append(session)
        self.version += 1
        return session

    def kill(self, session: GatewaySession) -> None:
        """End a session; it can't be resumed any more."""
        if session.alive:
            session.ended_at = self._clock()
            session.ended_connected = session.connected
        session.alive = False
        session.connection = None
        session.forget()
        self.version += 1

    def find(self, session_id: str) -> GatewaySession | None:
        """Return the session if it can still be resumed."""
        self.expire()
        for session in self.sessions:
            if session.session_id == session_id and session.alive:
                return session
        return None

    def expire(self) -> None:
        """End sessions that have been disconnected for longer than `session_ttl`."""
        oldest = self._clock() - self.session_ttl
        for session in self.sessions:
            left = session.disconnected_at
            if session.alive and not session.connected and left is not None and left < oldest:
                self.kill(session)

    def detached(self, session: GatewaySession) -> None:
        """Note that a session's connection has ended; the session waits for a RESUME."""
        session.connection = None
        session.disconnected_at = self._clock()

    def living(self, shard: int | None = None) -> list[GatewaySession]:
        """Return the sessions that are connected or can be resumed, of one shard or of all."""
        return [s for s in self.sessions if s.alive and shard in (None, s.shard)]

    def targets(self, guild_id: int | None) -> list[GatewaySession]:
        """Return the sessions that get the events of a guild."""
        return [s for s in self.sessions if s.alive and s.shard == shard_of(guild_id, s.shard_count)]

    def dispatch(self, payload: Payload) -> list[Frame]:
        """Send a payload to every session of its shard."""
        return self.sent_to(self.targets(payload.guild_id), lambda _: payload)

    def sent_to(
        self, sessions: Iterable[GatewaySession], build: Callable[[GatewaySession], Payload | None]
    ) -> list[Frame]:
        """Send each session the result of `build`; None sends nothing."""
        frames: list[Frame] = []
        for session in sessions:
            payload = build(session)
            if payload is not None:
                frames.append(self.send(session, payload))
        return frames

    def send(self, session: GatewaySession, payload: Payload) -> Frame:
        """Send one event to one session."""
        frame = session.send(payload)
        if self.record:
            self.sent.append(frame)
        return frame
