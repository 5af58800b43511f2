"""How a session begins: with IDENTIFY, or again with RESUME."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import msgspec
import structlog
from prometheus_client import Counter

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import shard_of
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.nats.stream_reader import EventsLost, Stored, StreamReader

from ..guilds.listing import TooManyServers
from ..tenants import Holder, TablesStale
from . import intents
from .client import Client
from .events import StreamEvent, event_of
from .frames import guild_gone, with_body
from .protocol import CloseCode, Closing, Identify, Resume
from .records import Record
from .registry import Sessions
from .service import Bot, Service, SessionTuning
from .session import Arrival, Session
from .session_ids import SessionId

_log = structlog.get_logger("sandbox.client_gateway")

_GUILDS_AT_ONCE = 4
_LARGE_AT_LEAST, _LARGE_AT_MOST = 50, 250
_LATER = Closing(CloseCode.RECONNECT, "not possible now; try again")


class Refused(Exception):
    """Answered with op 9: the client has to identify, later or anew. Its text is the reason."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that hears of everything, and sends nothing before `greet` is done."""

    session: Session
    greet: Callable[[], Awaitable[None]]
    """Sends what comes first. Raises `Closing`, `Refused` or `DependencyUnavailable`."""


class _Early:
    """Hears the events that come before there is a session, as many as that may have waiting."""

    def __init__(self, tuning: SessionTuning) -> None:
        self._tuning = tuning
        self._events: list[StreamEvent] = []
        self._bytes = 0
        self._lost = False

    def offer(self, event: StreamEvent) -> None:
        """See `Listener`. With more than may wait the session ends at once."""
        if len(self._events) <= self._tuning.waiting_events and self._bytes <= self._tuning.waiting_bytes:
            self._events.append(event)
            self._bytes += len(event.frame.after)

    def events_lost(self) -> None:
        """See `Listener`."""
        self._lost = True

    def hand_over(self, session: Session) -> None:
        """Tell the session what was heard."""
        for event in self._events:
            session.offer(event)
        if self._lost:
            session.events_lost()


class Beginnings:
    """Opens the sessions of this process."""

    def __init__(self, service: Service, sessions: Sessions) -> None:
        self._service = service
        self._sessions = sessions

    @asynccontextmanager
    async def identify(self, client: Client, asked: Identify) -> AsyncIterator[Opened]:
        """Begin a session with READY and every server. Raises `Closing` or `Refused`."""
        service = self._service
        tenant = await self._tenant(client, asked.token, service.metrics.identifies)
        shard, count = asked.shard or (0, 1)
        if not 0 <= shard < count <= 0xFFFF:
            raise Closing(CloseCode.INVALID_SHARD, "there is no such shard")
        if asked.intents is None or asked.intents & ~intents.KNOWN or asked.intents < 0:
            raise Closing(CloseCode.INVALID_INTENTS, "these are no intents")
        bot = await self._bot(tenant)
        if intents.lacking(asked.intents, bot.flags):
            # It may have been allowed since Discord was asked.
            bot = await self._bot(tenant, anew=True)
        if intents.lacking(asked.intents, bot.flags):
            self._count("disallowed_intents")
            raise Closing(CloseCode.DISALLOWED_INTENTS, "the application lacks a privileged intent")
        await self._limit(tenant)
        async with AsyncExitStack() as stack:
            try:
                feed = await stack.enter_async_context(
                    service.feeds.use(tenant.sandbox_id, credentials=tenant.credentials)
                )
                # The position first, and all that Discord is asked for afterwards: nothing falls between.
                early = _Early(service.tuning)
                feed.add(early)
                stack.callback(feed.remove, early)
                position = max(feed.position, (await feed.place.state()).last)
                listed = await service.lists.at_beginning(tenant)
            except DependencyUnavailable as error:
                _log.warning("client_identify_waits", reason=error.reason)
                raise _LATER from None
            except TooManyServers as error:
                self._count("too_many_servers")
                _log.error("production_refused", reason=str(error))
                raise Closing(CloseCode.SHARDING_REQUIRED, str(error)) from None
            guild_ids = [each for each in listed if shard_of(each, count) == shard]
            identity = SessionId(
                tenant.sandbox_id,
                tenant.credentials,
                secrets.token_hex(8),
                asked.intents,
                shard,
                count,
                1 + len(guild_ids),
                feed.birth,
                position,
                min(max(asked.large_threshold or 0, _LARGE_AT_LEAST), _LARGE_AT_MOST),
            )
            session = Session(service, bot, client, tenant, identity)
            session.library = asked.library
            session.known.update(guild_ids)
            early.hand_over(session)
            feed.remove(early)
            feed.add(session)
            stack.callback(feed.remove, session)
            self._add(stack, session)
            await self._sessions.save_quietly([session])
            self._count("accepted")
            session.report("identified", shard=shard, shards=count, intents=asked.intents)

            async def greet() -> None:
                ready = self._ready(session, bot, guild_ids, client.version)
                await client.send(with_body("READY", ready).numbered(1))
                await self._introduce(session, client, guild_ids, 1)

            yield Opened(session, greet)

    @asynccontextmanager
    async def resume(self, client: Client, asked: Resume) -> AsyncIterator[Opened]:
        """Go on with a session, first with what was missed. Raises `Closing` or `Refused`."""
        service = self._service
        tenant = await self._tenant(client, asked.token, service.metrics.resumes)
        identity = service.ids.read(asked.session_id)
        present = (tenant.sandbox_id, tenant.credentials)
        if identity is None or (identity.sandbox_id, identity.credentials) != present:
            raise self._refused("unknown_session")
        bot = await self._bot(tenant)
        async with AsyncExitStack() as stack:
            try:
                record = await service.records.load(identity)
                if record is None:
                    raise self._refused("too_late")
                feed = await stack.enter_async_context(
                    service.feeds.use(tenant.sandbox_id, credentials=tenant.credentials)
                )
                if feed.birth != identity.birth:
                    raise self._refused("events_lost")
                unseen = self._unseen(record, identity, asked.seq)
                session = Session(service, bot, client, tenant, identity)
                session.resume(record, self._mark(record, identity, asked.seq), asked.seq)
                feed.add(session)
                stack.callback(feed.remove, session)
                self._add(stack, session)
                await self._sessions.take(session)
            except DependencyUnavailable as error:
                _log.warning("client_resume_waits", reason=error.reason)
                raise _LATER from None

            async def greet() -> None:
                try:
                    await self._introduce(session, client, unseen, asked.seq)
                    await self._replay(session, feed.place, feed.birth)
                except EventsLost:
                    raise self._refused("events_lost") from None
                if session.behind:
                    raise Closing(CloseCode.INVALID_SEQUENCE, "the session has no such sequence number")
                body = msgspec.json.encode({"_trace": []})
                await client.send(with_body("RESUMED", body).numbered(session.sequence))
                await self._catch_up(session)
                service.metrics.resumes.labels("accepted").inc()
                session.report("resumed", sequence=asked.seq, missed=session.sequence - asked.seq)

            yield Opened(session, greet)

    def _add(self, stack: AsyncExitStack, session: Session) -> None:
        """Have the session told what changes, and what has changed since its client showed its token."""
        self._sessions.add(session)
        stack.push_async_callback(self._sessions.leave, session)
        sandbox_id = session.identity.sandbox_id
        self._sessions.tenant_changed(sandbox_id, self._service.tenant(sandbox_id))

    async def _tenant(self, client: Client, token: str, counted: Counter) -> Holder:
        client.holder = None
        try:
            tenant = client.holder = await self._service.tenants.by_token(token)
        except TablesStale:
            raise _LATER from None
        if tenant is None:
            counted.labels("token_refused").inc()
            raise Closing(CloseCode.AUTHENTICATION_FAILED, "this is no running sandbox's token")
        return tenant

    async def _bot(self, tenant: Holder, *, anew: bool = False) -> Bot:
        try:
            return await self._service.bots.get(tenant.sandbox_id, anew=anew)
        except DependencyUnavailable as error:
            _log.warning("client_bot_unknown", reason=error.reason)
            raise _LATER from None

    async def _limit(self, tenant: Holder) -> None:
        limits = self._service.limits
        try:
            if await limits.too_soon(tenant.sandbox_id):
                self._count("too_soon")
                raise Refused("too_soon")
            used_up = await limits.used_up(tenant.sandbox_id)
        except DependencyUnavailable as error:
            _log.warning("client_identify_waits", reason=error.reason)
            raise _LATER from None
        if used_up:
            self._count("used_up")
            _log.warning("client_identifies_used_up", sandbox_id=str(tenant.sandbox_id))
            raise Closing(
                CloseCode.AUTHENTICATION_FAILED, "the sandbox's bots have identified too often today"
            )

    async def _introduce(self, session: Session, client: Client, guild_ids: list[str], sequence: int) -> None:
        """Send each server in its turn behind `sequence`; Discord is asked about several at once."""
        few = asyncio.Semaphore(_GUILDS_AT_ONCE)

        async def snapshot(guild_id: str) -> bytes | None:
            async with few:
                found = await session.snapshot(guild_id)
            # What others do there now is not the session's to see.
            return found if guild_id in session.tenant.guild_ids else None

        asked = [asyncio.ensure_future(snapshot(each)) for each in guild_ids]
        try:
            for number, (guild_id, found) in enumerate(zip(guild_ids, asked, strict=True), sequence + 1):
                body = await found
                frame = with_body("GUILD_CREATE", body) if body else None
                if frame is None:
                    _log.warning("client_guild_unavailable", guild_id=guild_id)
                    frame = guild_gone(guild_id)
                await client.send(frame.numbered(number))
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _ready(self, session: Session, bot: Bot, guild_ids: list[str], version: str) -> bytes:
        identity = session.identity
        return msgspec.json.encode(
            {
                "v": int(version),
                "user": bot.user,
                "user_settings": {},
                "guilds": [{"id": each, "unavailable": True} for each in guild_ids],
                "private_channels": [],
                "relationships": [],
                "presences": [],
                "session_type": "normal",
                "session_id": self._service.ids.write(identity),
                "resume_gateway_url": self._service.gateway_url,
                "shard": [identity.shard, identity.shard_count],
                "application": {"id": bot.application_id, "flags": bot.flags},
                "_trace": [],
            }
        )

    def _unseen(self, record: Record, identity: SessionId, sequence: int) -> list[str]:
        """Return the servers of the session's beginning that the client has not seen. Raises `Refused`."""
        if sequence >= identity.sequence:
            return []
        guild_ids = sorted(record.guilds_at(sequence))
        if sequence < 1 or len(guild_ids) != identity.sequence - 1:
            raise self._refused("events_lost")
        return guild_ids[sequence - 1 :]

    def _mark(self, record: Record, identity: SessionId, sequence: int) -> tuple[int, int]:
        """Return the number at or before the client's, and the position of its event."""
        begun = (identity.sequence, identity.position)
        return max(record.mark_for(sequence) or begun, begun)

    async def _replay(self, session: Session, place: StreamPlace, birth: int) -> None:
        """Send what the client has missed, up to the stream's last event now."""
        last = await place.last()
        missed: list[Stored] = []
        await StreamReader(place, birth, session.position, missed.append, until=last).run()
        for stored in missed:
            if (event := event_of(stored)) is not None:
                await session.handle(event)

    async def _catch_up(self, session: Session) -> None:
        """Have a client that was away told which servers have come and gone meanwhile."""
        present = self._service.tenant(session.tenant.sandbox_id)
        self._sessions.tenant_changed(session.tenant.sandbox_id, present)
        if present is not None:
            told = session.known | session.uncertain
            self._sessions.left(session, [each for each in told if each not in present.guild_ids])
            for guild_id in session.of_shard(await self._service.lists.now(present)):
                session.put(Arrival(guild_id))

    def _count(self, result: str) -> None:
        self._service.metrics.identifies.labels(result).inc()

    def _refused(self, why: str) -> Refused:
        self._service.metrics.resumes.labels(why).inc()
        return Refused(why)
