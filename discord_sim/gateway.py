"""The gateway's WebSocket protocol from HELLO to close, as Discord documents it.

Opcodes, close codes and session rules: developer documentation, "Gateway", "Gateway Events" and "Opcodes and
Status Codes".
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from discord_sim.connection import Connection
from discord_sim.frames import Payload, encode
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.session import GatewaySession, SessionHub
from discord_sim.signals import Signal
from discord_sim.snowflake import shard_of
from discord_sim.world import shapes
from discord_sim.world.world import World

DISPATCH, HEARTBEAT, IDENTIFY, PRESENCE, VOICE_STATE = 0, 1, 2, 3, 4
RESUME, RECONNECT, REQUEST_MEMBERS, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 6, 7, 8, 9, 10, 11
QUIET_OPS = frozenset({PRESENCE, VOICE_STATE, 31, 43})
KNOWN_INTENTS = (1 << 26) - 1
IDENTIFY_INTERVAL = 5.0
"""The least seconds between two IDENTIFYs of one max_concurrency bucket."""

FATAL_CLOSES = frozenset({4004, 4010, 4011, 4012, 4013, 4014})
SESSION_ENDING_CLOSES = FATAL_CLOSES | {1000, 1001, 4007, 4009}


class _CloseSocket(Exception):
    """Ends a connection with a close code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class IdentifyRecord:
    """A received IDENTIFY; `too_soon` means that its bucket was still blocked."""

    at: float
    shard: int
    shard_count: int
    intents: int
    accepted: bool
    too_soon: bool


@dataclass(frozen=True)
class ResumeRecord:
    """A received RESUME, and the number of replayed frames (None: refused)."""

    at: float
    session_id: str
    shard: int | None
    sequence: int
    replayed: int | None


@dataclass
class GatewayRules:
    """The rules of the gateway; tests change them at run time."""

    token: str
    """The only accepted token."""
    heartbeat_interval_ms: int = 41_250
    """The interval in HELLO."""
    max_concurrency: int = 1
    """The number of IDENTIFY buckets."""
    enforce_identify_limit: bool = False
    """Answer op 9 to an IDENTIFY less than 5 seconds after another of its bucket."""
    required_shards: int | None = None
    """Close with 4011 when a client uses fewer shards."""
    disallowed_intents: int = 0
    """Close with 4014 when a client asks for one of these."""
    refuse_resume_url: str | None = None
    """"drop" breaks connections to the resume URL, "hang" never answers them, "garble" sends them data that
    can't be decompressed, None serves them."""
    freeze_acks: bool = False
    session_starts_left: int = 1000
    """The number in /gateway/bot, which each IDENTIFY lowers. An IDENTIFY at 0 gets close code 4004."""
    zstd: str = "zstd"
    """The answer to a client that asks for zstd-stream: "zstd"; "zlib", as if it had asked for zlib-stream;
    "plain" text; "refused" (HTTP 400); "closed" (4002 at once)."""
    pieces: int = 1
    """The number of messages for each compressed event on new connections; 0 joins several events."""
    asked: list[str | None] = field(default_factory=list)
    """The value of `compress` of each connection."""
    identifies: list[IdentifyRecord] = field(default_factory=list)
    resumes: list[ResumeRecord] = field(default_factory=list)


class Gateway:
    """Accepts connections, and runs the protocol on each."""

    def __init__(self, world: World, hub: SessionHub, rules: GatewayRules) -> None:
        self.world = world
        self.hub = hub
        self.rules = rules
        self.resume_url = ""
        self.connections: list[Connection] = []
        self.changed = Signal()
        self._bucket_times: dict[int, float] = {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handle one WebSocket from its handshake to its end."""
        refused = self.rules.refuse_resume_url if request.path.startswith("/resume") else None
        if refused in {"drop", "hang"}:
            await self._refuse(request)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=404)
        compression = asked = request.query.get("compress")
        self.rules.asked.append(asked)
        if asked == "zstd-stream" and self.rules.zstd != "zstd":
            if self.rules.zstd == "refused":
                return web.Response(status=400)
            compression = "zlib-stream" if self.rules.zstd == "zlib" else None
        socket = web.WebSocketResponse(compress=False, timeout=1.0)
        await socket.prepare(request)
        if asked == "zstd-stream" and self.rules.zstd == "closed":
            await socket.close(code=4002)
            return socket
        connection = Connection(request, socket, compression=compression)
        connection.cut(self.rules.pieces)
        self.connections.append(connection)
        pump = asyncio.create_task(connection.pump())
        try:
            if refused == "garble":
                connection.garble()
            connection.send_op(
                HELLO, {"heartbeat_interval": self.rules.heartbeat_interval_ms, "_trace": ["sim"]}
            )
            await _Conversation(self, connection).run()
        finally:
            self.connections.remove(connection)
            connection.finish()
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            self.changed.notify()
        return socket

    def identify_allowed(self, shard: int) -> bool:
        """Return whether this shard's bucket may identify now; if so, block it for `IDENTIFY_INTERVAL`."""
        now = self.world.clock()
        bucket = shard % self.rules.max_concurrency
        last = self._bucket_times.get(bucket)
        if last is not None and now - last < IDENTIFY_INTERVAL:
            return False
        self._bucket_times[bucket] = now
        return True

    def ready(self, session: GatewaySession) -> Json:
        """The `d` of READY."""
        return {
            "v": 10,
            "user_settings": {},
            "user": shapes.self_user(self.world.bot),
            "session_type": "normal",
            "session_id": session.session_id,
            "resume_gateway_url": self.resume_url,
            "relationships": [],
            "private_channels": [],
            "presences": [],
            "guilds": [
                {"id": str(g.id), "unavailable": True}
                for g in self.world.bot_guilds()
                if shard_of(g.id, session.shard_count) == session.shard
            ],
            "guild_join_requests": [],
            "geo_ordered_rtc_regions": [],
            "auth": {},
            "application": {"id": str(self.world.application_id), "flags": 0},
            "shard": [session.shard, session.shard_count],
            "_trace": ["sim"],
        }

    def guild_payload(self, session: GatewaySession, guild_id: int) -> Payload:
        """GUILD_CREATE for one session."""
        body = self.world.guild_create(self.world.guilds[guild_id], session.intents)
        return Payload("GUILD_CREATE", guild_id, encode(body))

    async def _refuse(self, request: web.Request) -> None:
        if self.rules.refuse_resume_url == "hang":
            # aiohttp cancels this handler when the client gives up.
            await self.changed.wait_for(lambda: self.rules.refuse_resume_url != "hang", 3600.0)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the resume URL is refused")


class _Conversation:
    """The protocol of one connection."""

    def __init__(self, gateway: Gateway, connection: Connection) -> None:
        self._gateway = gateway
        self._hub = gateway.hub
        self._rules = gateway.rules
        self._connection = connection
        self._session: GatewaySession | None = None

    async def run(self) -> None:
        """Read until the connection ends, then end the session or keep it for a RESUME."""
        socket = self._connection.socket
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                if self._connection.muted:
                    continue
                try:
                    self._receive(message.data)
                except _CloseSocket as closing:
                    self._connection.close_after_queue(closing.code)
        finally:
            self._ended(socket.close_code)

    def _receive(self, data: str | bytes) -> None:
        try:
            message = json.loads(data)
            op, body = message["op"], message.get("d")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _CloseSocket(4002) from None
        if op == HEARTBEAT:
            self._heartbeat(body)
        elif op == IDENTIFY:
            self._identify(body)
        elif op == RESUME:
            self._resume(body)
        elif op == REQUEST_MEMBERS:
            self._request_members(self._require_session(), body)
        elif op in QUIET_OPS:
            self._require_session()
        else:
            raise _CloseSocket(4001)

    def _require_session(self) -> GatewaySession:
        if self._session is None:
            raise _CloseSocket(4003)
        return self._session

    def _heartbeat(self, sequence: JsonValue) -> None:
        if self._session is not None:
            self._session.heartbeats += 1
            if isinstance(sequence, int):
                self._session.last_heartbeat_sequence = sequence
        if not (self._rules.freeze_acks or self._connection.ack_frozen):
            self._connection.send_op(HEARTBEAT_ACK)

    def _opening(self, body: JsonValue) -> dict[str, JsonValue]:
        """Check what a session begins with, and return it."""
        if self._session is not None and self._session.alive:
            raise _CloseSocket(4005)
        if not isinstance(body, dict):
            raise _CloseSocket(4002)
        if body.get("token") != self._rules.token:
            raise _CloseSocket(4004)
        return body

    def _identify(self, body: JsonValue) -> None:
        body = self._opening(body)
        shard, count = self._shard(body.get("shard") or [0, 1])
        intents = body.get("intents")
        if not isinstance(intents, int) or intents & ~KNOWN_INTENTS:
            raise _CloseSocket(4013)
        if intents & self._rules.disallowed_intents:
            raise _CloseSocket(4014)
        if self._rules.session_starts_left <= 0:
            raise _CloseSocket(4004)
        too_soon = not self._gateway.identify_allowed(shard)
        refused = too_soon and self._rules.enforce_identify_limit
        self._rules.identifies.append(
            IdentifyRecord(self._gateway.world.clock(), shard, count, intents, not refused, too_soon)
        )
        if refused:
            self._connection.send_op(INVALID_SESSION, False)
            return
        self._rules.session_starts_left -= 1
        redacted = {k: v for k, v in body.items() if k != "token"}
        session = self._hub.open(shard=shard, shard_count=count, intents=intents, identify=redacted)
        self._attach(session)
        session.send_own(Payload("READY", None, encode(self._gateway.ready(session))))
        for guild in self._gateway.world.bot_guilds():
            if shard_of(guild.id, count) == shard:
                self._hub.send(session, self._gateway.guild_payload(session, guild.id))
        self._gateway.changed.notify()

    def _shard(self, pair: JsonValue) -> tuple[int, int]:
        try:
            shard, count = int(pair[0]), int(pair[1])
        except (TypeError, ValueError, IndexError, KeyError):
            raise _CloseSocket(4010) from None
        if not 0 <= shard < count:
            raise _CloseSocket(4010)
        if self._rules.required_shards is not None and count < self._rules.required_shards:
            raise _CloseSocket(4011)
        return shard, count

    def _resume(self, body: JsonValue) -> None:
        body = self._opening(body)
        wanted, sequence = str(body.get("session_id")), body.get("seq")
        session = self._hub.find(wanted)
        number = sequence if isinstance(sequence, int) else 0
        if session is not None and number > session.sequence:
            self._record_resume(wanted, session.shard, number, None)
            self._hub.kill(session)
            raise _CloseSocket(4007)
        missed = None if session is None else session.missed_since(number)
        if session is None or missed is None:
            self._record_resume(wanted, None if session is None else session.shard, number, None)
            if session is not None:
                self._hub.kill(session)
            self._connection.send_op(INVALID_SESSION, False)
            return
        earlier = session.connection
        if earlier is not None:
            # A second connection of the same session replaces the first.
            session.connection = None
            earlier.close_after_queue(4000)
        self._record_resume(wanted, session.shard, number, len(missed))
        session.resume_count += 1
        session.resumed_from.append(number)
        self._attach(session)
        for frame in missed:
            self._connection.send_frame(frame)
        session.send_own(Payload("RESUMED", None, encode({"_trace": ["sim"]})))
        self._gateway.changed.notify()

    def _record_resume(self, session_id: str, shard: int | None, sequence: int, replayed: int | None) -> None:
        now = self._gateway.world.clock()
        self._rules.resumes.append(ResumeRecord(now, session_id, shard, sequence, replayed))

    def _attach(self, session: GatewaySession) -> None:
        self._session = session
        session.connection = self._connection
        session.disconnected_at = None
        self._connection.shard = session.shard

    def _request_members(self, session: GatewaySession, body: JsonValue) -> None:
        guild = self._gateway.world.guilds.get(int(body.get("guild_id") or 0))
        if guild is None or not guild.has_bot:
            return
        wanted = body.get("user_ids") or []
        ids = {int(i) for i in (wanted if isinstance(wanted, list) else [wanted])}
        query, limit = (body.get("query") or "").lower(), int(body.get("limit") or 0)
        found = [
            m
            for m in guild.members.values()
            if (m.user.id in ids if ids else m.user.name.lower().startswith(query))
        ]
        if limit:
            found = found[:limit]
        chunks = [found[i : i + 1000] for i in range(0, len(found), 1000)] or [[]]
        for index, chunk in enumerate(chunks):
            answer: Json = {
                "guild_id": str(guild.id),
                "members": [shapes.member(m) for m in chunk],
                "chunk_index": index,
                "chunk_count": len(chunks),
                "not_found": [str(i) for i in ids - set(guild.members)],
            }
            if body.get("presences"):
                answer["presences"] = []
            if body.get("nonce") is not None:
                answer["nonce"] = body["nonce"]
            self._hub.send(session, Payload("GUILD_MEMBERS_CHUNK", guild.id, encode(answer)))

    def _ended(self, close_code: int | None) -> None:
        session = self._session
        if session is None:
            return
        by_us = self._connection.close_sent
        if by_us is None:
            session.last_client_close = close_code
        if session.connection is not self._connection:
            return
        code = close_code if by_us is None else by_us
        self._hub.detached(session)
        if code in SESSION_ENDING_CLOSES:
            self._hub.kill(session)
