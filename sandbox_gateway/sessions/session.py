"""One client's session while it is connected here: what it has, what it knows, and what comes next.

Its numbers count the stream's events that it gets. Whatever else it is sent, such as a server that has come,
has the number of the event before: so every process finds the same number for the same event.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import shard_of
from sandbox_core.subjects import HOLDER_DIGITS

from ..tenants import Holder, TablesStale, Tenant
from . import intents
from .client import Client
from .events import StreamEvent
from .frames import Divided, guild_gone, with_body
from .protocol import CloseCode, Closing
from .records import Held, Record, Told
from .service import Bot, Service
from .session_ids import SessionId

_log = structlog.get_logger("sandbox.client_gateway")

_MARKS, _TOLD = 64, 64
_SHORT = 8
"""How many digits of a session's number tell it apart for people."""
_TRY_AGAIN_AFTER = 0.5
_TRIES = 6


@dataclass(frozen=True, slots=True)
class Arrival:
    """A server is the sandbox's, or production's, now."""

    guild_id: str


@dataclass(frozen=True, slots=True)
class Departure:
    """A server is the sandbox's no more; its last event is not behind `position`."""

    guild_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client has asked for."""

    frame: Divided


Item = StreamEvent | Arrival | Departure | Answer


class _Interaction(msgspec.Struct):
    id: str
    token: str


class _InteractionFrame(msgspec.Struct):
    d: _Interaction


_INTERACTION = msgspec.json.Decoder(_InteractionFrame)
_ABOUT_COMMANDS = frozenset({"INTERACTION_CREATE", "APPLICATION_COMMAND_PERMISSIONS_UPDATE"})
# Of a GUILD_DELETE, which has nothing else than the id beside it.
_IS_OUTAGE = re.compile(rb'"unavailable"\s*:\s*true')


class Session:
    """The state of one session, and the one task that sends what is in its queue."""

    def __init__(
        self, service: Service, bot: Bot, client: Client, tenant: Holder, identity: SessionId
    ) -> None:
        self._service = service
        self._bot = bot
        self._guest = tenant.guest if isinstance(tenant, Tenant) else ""
        self._client = client
        self.tenant = tenant
        self.identity = identity
        self.library = ""
        """As the client calls it."""
        self.sequence = identity.sequence
        self.position = identity.position
        self.known: set[str] = set()
        """The servers that the client was told of."""
        self.uncertain: set[str] = set()
        """Those that it may know or not; it has still to be told."""
        self._strangers: set[str] = set()
        """Servers with events in the stream that are not the sandbox's any more, or without the bot."""
        self._received = 0
        """The client has the events up to this number already."""
        self._marks: deque[tuple[int, int]] = deque([(self.sequence, self.position)])
        self._told: deque[Told] = deque(maxlen=_TOLD)
        self._departures: dict[str, int] = {}
        self._members_asked: dict[str, float] = {}
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self.ended: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        """Why the session ends here."""
        self.unsaved = True
        """Whether another process would not know where it is."""
        self.holder = secrets.token_hex(HOLDER_DIGITS // 2)
        """Tells this connection from others with the same session."""

    def report(self, what: str, **details: object) -> None:
        """Keep for the sandbox's owner what happened."""
        named = {"session": self.identity.number[:_SHORT], **details}
        self._service.reports.record_session(self.tenant, what, named)

    # What others tell it

    def end(self, closing: Closing) -> None:
        """End the connection."""
        if not self.ended.done():
            self.ended.set_result(closing)

    @property
    def waiting_bytes(self) -> int:
        """How much waits for the client."""
        return self._bytes

    @property
    def over(self) -> bool:
        """Whether nobody can go on with it."""
        closing = self.ended.result() if self.ended.done() else None
        failed = closing is not None and closing.code is CloseCode.AUTHENTICATION_FAILED
        return failed or closing is LOST or self.behind

    def offer(self, event: StreamEvent) -> None:
        """See `Listener`."""
        if self.ended.done():
            # Nobody sends it any more.
            return
        self._bytes += len(event.frame.after)
        self.put(event)
        tuning = self._service.tuning
        # One event alone may be larger than all that waits: it can't come any smaller after a RESUME.
        too_many = self._bytes > tuning.waiting_bytes and len(self._queue) > 1
        if too_many or len(self._queue) > tuning.waiting_events:
            self.end(Closing(CloseCode.RECONNECT, "the client does not read fast enough; it can resume"))

    def events_lost(self) -> None:
        """See `Listener`."""
        self.end(LOST)

    def put(self, item: Item) -> None:
        """Have it handled after everything before it."""
        self._queue.append(item)
        self._wake.set()

    async def answer(self, frame: Divided) -> None:
        """Have what the client has asked for sent behind everything before; waits while it does not read."""
        while self._bytes > self._service.tuning.answers_from:
            self._room.clear()
            await self._room.wait()
        self._bytes += len(frame.after)
        self.put(Answer(frame))

    def changed(self, tenant: Holder | None) -> Iterable[str]:
        """The sandbox has changed. Return the servers that it has no more."""
        if tenant is None or tenant.credentials != self.tenant.credentials:
            what = "the sandbox has ended" if tenant is None else "the sandbox has other credentials now"
            if not isinstance(self.tenant, Tenant):
                what = "this is production's token no more"
            self.end(Closing(CloseCode.AUTHENTICATION_FAILED, what))
            return ()
        if self._guest and isinstance(tenant, Tenant) and self._guest not in tenant.guests:
            what = "the sandbox is not shared with you any more"
            self.end(Closing(CloseCode.AUTHENTICATION_FAILED, what))
            return ()
        before, self.tenant = self.tenant, tenant
        self._strangers.clear()
        for guild_id in sorted(tenant.guild_ids - before.guild_ids):
            if self._is_of_shard(guild_id):
                self.put(Arrival(guild_id))
        return self.of_shard(before.guild_ids - tenant.guild_ids)

    def members_wait(self, guild_id: str, every: float) -> float:
        """Return for how many seconds all members of the server can't be asked for; 0 notes a request."""
        now = time.monotonic()
        wait = self._members_asked.get(guild_id, now - every) + every - now
        if wait <= 0:
            self._members_asked[guild_id] = now
        return max(0.0, wait)

    # Its beginning

    def of_shard(self, guild_ids: Iterable[str]) -> list[str]:
        """Return those of these servers that belong to the session's shard."""
        return [each for each in guild_ids if self._is_of_shard(each)]

    def resume(self, record: Record, mark: tuple[int, int], received: int) -> None:
        """Go on at `mark` with a client that has the events up to the number `received`."""
        self.sequence, self.position = mark
        self._received = received
        self._client.acknowledged = received
        self._marks = deque([mark])
        self.library = record.library
        self.uncertain = record.uncertain_at(received)
        self.known = record.guilds_at(received) - self.uncertain

    @property
    def behind(self) -> bool:
        """Whether the client claims to have more than there was."""
        return self.sequence < self._received

    def held(self, *, always: bool = False) -> Held:
        """Return it for `Records`, with its record if that is not saved, or `always`."""
        return Held(self.identity, self.holder, self.record() if self.unsaved or always else None)

    def record(self) -> Record:
        """Return what another process has to know of it."""
        mark = (self.sequence, self.position)
        if self._marks and self._marks[-1][0] == self.sequence:
            self._marks.pop()
        self._marks.append(mark)
        # The client goes on behind its last confirmed event at the earliest.
        while len(self._marks) > 1 and self._marks[1][0] <= self._client.acknowledged:
            self._marks.popleft()
        if len(self._marks) > _MARKS:
            first, *others, last = self._marks
            self._marks = deque([first, *others[1::2], last])
        self.unsaved = False
        known, uncertain = sorted(self.known), sorted(self.uncertain)
        return Record(list(self._marks), known, list(self._told), uncertain, self.library)

    # What it does

    async def run(self) -> None:
        """Send what is in the queue, until it is cancelled."""
        while True:
            while self._queue:
                item = self._queue.popleft()
                if isinstance(item, StreamEvent | Answer):
                    self._bytes -= len(item.frame.after)
                    self._room.set()
                await self.handle(item)
            self._wake.clear()
            await self._wake.wait()

    async def handle(self, item: Item) -> None:
        """Send what `item` stands for."""
        match item:
            case StreamEvent():
                if item.position > self.position:
                    await self._event(item)
            case Arrival():
                await self._arrive(item.guild_id)
            case Departure():
                self._departures[item.guild_id] = item.position
            case Answer():
                await self._client.send(item.frame.numbered(self.sequence))
        if self._departures:
            await self._depart()

    async def _event(self, event: StreamEvent) -> None:
        if not self._gets(event):
            self.position = event.position
            self.unsaved = True
            return
        guild_id = event.guild_id
        if guild_id is not None:
            await self._meet(event, guild_id)
        self.sequence += 1
        self.position = event.position
        self.unsaved = True
        if self.sequence <= self._received:
            return
        frame = event.frame.numbered(self.sequence)
        if event.type == "INTERACTION_CREATE":
            await self._note_interaction(frame, guild_id)
        if event.type in _ABOUT_COMMANDS:
            # Production's commands have Discord's own ids.
            if isinstance(self.tenant, Tenant):
                frame = await self._service.commands.to_client(self.tenant, frame)
        elif intents.loses_content(event.type, self.identity.intents):
            frame = intents.without_content(frame, self._bot.user_id)
        await self._client.send(frame)
        self._service.metrics.lag.observe(max(0.0, time.time() - event.stored_at))

    async def _meet(self, event: StreamEvent, guild_id: str) -> None:
        """Before an event of a server: the client knows the server, unless the event is what tells it."""
        if event.type == "GUILD_DELETE":
            if guild_id in self.known and not _IS_OUTAGE.search(event.frame.after):
                # The bot is in it no more.
                self._note(guild_id, present=False)
        elif guild_id in self.known:
            return
        elif event.type == "GUILD_CREATE":
            self._note(guild_id, present=True)
        elif self.sequence + 1 > self._received and await self._is_ours(guild_id):
            await self._arrive(guild_id)

    def _gets(self, event: StreamEvent) -> bool:
        """Whether the event counts in this session: by what never changes in it."""
        needed = intents.needed(event.type, in_guild=event.guild_id is not None)
        if needed and not self.identity.intents & needed:
            if event.type != intents.OF_MEMBER:
                return False
            if not intents.is_of_bot(event.frame.numbered(0), self._bot.user_id):
                return False
        return shard_of(event.guild_id, self.identity.shard_count) == self.identity.shard

    def _is_of_shard(self, guild_id: str) -> bool:
        return shard_of(guild_id, self.identity.shard_count) == self.identity.shard

    async def _is_ours(self, guild_id: str) -> bool:
        """Whether the server is the sandbox's now; its event may be here before the news of that."""
        if guild_id in self._strangers:
            return False
        if guild_id not in self.tenant.guild_ids:
            try:
                await self._service.refresh()
            except TablesStale:
                # The events still come, as they would have a moment later.
                return False
        present = self._service.tenant(self.tenant.sandbox_id)
        ours = present is not None and guild_id in present.guild_ids
        if not ours:
            self._strangers.add(guild_id)
        return ours

    async def _arrive(self, guild_id: str) -> None:
        if guild_id in self.known or not await self._is_ours(guild_id):
            return
        self._departures.pop(guild_id, None)
        body = await self.snapshot(guild_id)
        if body is None:
            # Such as where the bot's application is with a person: Discord is not asked for each event.
            self._strangers.add(guild_id)
            return
        await self._tell(guild_id, with_body("GUILD_CREATE", body), present=True)

    async def _depart(self) -> None:
        due = [guild_id for guild_id, position in self._departures.items() if position <= self.position]
        for guild_id in due:
            del self._departures[guild_id]
            if guild_id in self.known | self.uncertain:
                await self._tell(guild_id, guild_gone(guild_id), present=False)
                # It may be back already, and what happened to it meanwhile the client was not told.
                await self._arrive(guild_id)

    async def _tell(self, guild_id: str, frame: Divided, *, present: bool) -> None:
        """Send what no other process can find in the stream, once every other one may know of it."""
        self._note(guild_id, present=present)
        try:
            if await self._service.records.save([self.held(always=True)]):
                self.end(REPLACED)
        except DependencyUnavailable as error:
            # A process that goes on with the session may then not tell of the server again.
            _log.warning("client_session_not_saved", dependency=error.dependency, reason=error.reason)
        await self._client.send(frame.numbered(self.sequence))

    def _note(self, guild_id: str, *, present: bool) -> None:
        (self.known.add if present else self.known.discard)(guild_id)
        self.uncertain.discard(guild_id)
        self._told.append(Told(self.sequence, guild_id, present))
        self.unsaved = True

    async def snapshot(self, guild_id: str) -> bytes | None:
        """Return the `d` of GUILD_CREATE; None where the bot is not. Raises `Closing`."""
        for _ in range(_TRIES):
            try:
                return await self._service.snapshots.guild_create(
                    self.tenant,
                    guild_id,
                    intents=self.identity.intents,
                    large_threshold=self.identity.large_threshold,
                )
            except DependencyUnavailable as error:
                _log.warning("client_snapshot_waits", guild_id=guild_id, reason=error.reason)
                await asyncio.sleep(_TRY_AGAIN_AFTER)
        raise Closing(CloseCode.RECONNECT, "Discord does not answer; resume later")

    async def _note_interaction(self, frame: bytes, guild_id: str | None) -> None:
        try:
            seen = _INTERACTION.decode(frame).d
            await self._service.seen.note(self.tenant, "interaction", seen.id, seen.token, guild_id=guild_id)
        except msgspec.DecodeError:
            # Of another form than is known: nobody can answer it through the guard.
            _log.warning("client_interaction_unreadable", sandbox_id=str(self.tenant.sandbox_id))
        except DependencyUnavailable as error:
            if isinstance(self.tenant, Tenant):
                raise
            # Production's events wait for nobody; its own path lets the answer through all the same.
            _log.warning("client_interaction_not_noted", dependency=error.dependency, reason=error.reason)


REPLACED = Closing(CloseCode.RECONNECT, "the session goes on in another connection")
LOST = Closing(CloseCode.RECONNECT, "the stream no longer has all events")
"""The session can't go on: its client has to identify anew."""
