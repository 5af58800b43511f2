"""What processes that run an application's shards tell and ask each other over NATS.

`Takeovers`: who took a shard whose lease had lapsed. `ShardHolders`: whether anybody runs shards, where
PostgreSQL, which knows it, is away. `Presence`: whether a process is there at all.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import msgspec
import structlog

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.peer_subject import PeerSubject
from sandbox_core.strangers import UNREADABLE, Seldom

from . import tuning
from .leases import LeaseKeeper

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_log = structlog.get_logger("sandbox.gateway")


# What PostgreSQL can number them with.
_Shard = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Epoch = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class _Taken(msgspec.Struct):
    shard_count: _Shard
    epochs: dict[_Shard, _Epoch]


_read_taken = msgspec.json.Decoder(_Taken).decode
_read_lost = msgspec.json.Decoder(list[int]).decode

OnTakeover = Callable[[int, Mapping[int, int]], Awaitable[Collection[int]]]
"""Told a number of shards, and by shard the epoch of its new holder; returns the shards lost here by that."""


class Takeovers:
    """Tells and hears who took which shard.

    The earlier holder is dead as a rule. It may also be a process that alone is cut off from PostgreSQL, does
    not know that its leases have lapsed, and goes on publishing.
    """

    def __init__(self, connection: NatsConnection, application_id: int) -> None:
        self._peers = PeerSubject(connection, subjects.shard_takeovers_subject(application_id))

    async def tell(self, shard_count: int, epochs: Mapping[int, int], *, within: float = 0.0) -> None:
        """Tell every process that is connected that these shards were taken, by shard with the epoch.

        Returns when earlier holders have answered that they lost them all, after `within` seconds at most.
        What such a holder has published is with the server before its answer. Nothing happens without a
        connection: the database says it too, and Discord closes the older connection.
        """
        message = msgspec.json.encode(_Taken(shard_count, dict(epochs)))
        if within <= 0:
            await self._peers.tell(message)
            return
        missing, all_lost = set(epochs), asyncio.Event()
        unreadable = Seldom(_log, "takeover_answer_unreadable")

        async def on_answer(answer: Msg) -> None:
            try:
                missing.difference_update(_read_lost(answer.data))
            except UNREADABLE:
                unreadable.say(bytes=len(answer.data))
            if not missing:
                all_lost.set()

        try:
            await self._peers.ask(message, on_answer, all_lost, within=within)
        except DependencyUnavailable as error:
            _log.debug("takeover_not_told", reason=error.reason)
        if missing:
            # The rule: who had the shards is dead.
            _log.debug("takeover_not_answered", shards=sorted(missing))

    async def hear(self, on_takeover: OnTakeover) -> None:
        """Tell `on_takeover` from now on, also after reconnects."""
        unreadable = Seldom(_log, "takeover_unreadable")

        async def received(message: Msg) -> None:
            try:
                said = _read_taken(message.data)
            except UNREADABLE:
                unreadable.say(bytes=len(message.data))
                return
            lost = await on_takeover(said.shard_count, said.epochs)
            if lost:
                await self._peers.answer(message, msgspec.json.encode(sorted(lost)))

        await self._peers.hear(received)

    async def close(self) -> None:
        """Hear no more; harmless when never begun."""
        await self._peers.close()


_HOLDS = b"holds"
_PLUGIN = b"plugin"
# Ids are hexadecimal, so that what holders say is none.
_ID_BYTES = 16

Shards = tuple[int, Collection[int]]
"""How many shards there are, and some of them."""


class ShardHolders:
    """Answers for this process while it `holds` shards or asks, and asks the others.

    For a start while PostgreSQL is away: whoever publishes events hears NATS, so where nobody answers nobody
    publishes. Of several processes that ask at the same time one may go on: the one with the lowest id, which
    each draws for itself. Of two that ask, at least one hears the other's question, as both have subscribed
    long before they ask. It holds shards by then, which it answers; or it still asks, and yields to a lower
    id or answers with its own.

    `plugin` tells the number of shards and those held, where they are those of somebody else's bot; `wanted`
    the number and those that this process would run, when it knows them. Plugins that hold others do not
    count then.
    """

    def __init__(
        self,
        connection: NatsConnection,
        application_id: int,
        holds: Callable[[], bool],
        *,
        plugin: Callable[[], Shards] | None = None,
        wanted: Callable[[], Shards] | None = None,
    ) -> None:
        self._peers = PeerSubject(connection, subjects.shard_holders_subject(application_id))
        self._holds = holds
        self._plugin = plugin
        self._wanted = wanted
        self._plugins_only = False
        self._id = secrets.token_hex(_ID_BYTES).encode()
        self._asking = False
        self._must_wait = asyncio.Event()
        """Somebody holds shards, or asks with a lower id."""

    async def start(self) -> None:
        """Answer from now on, also after reconnects."""
        await self._peers.hear(self._on_question)

    async def close(self) -> None:
        """Answer no more; harmless when never started."""
        await self._peers.close()

    async def plugins(self, *, within: float = tuning.HOLDERS_ANSWER_WITHIN) -> bool:
        """As `others`, but only plugins count."""
        self._plugins_only = True
        try:
            return await self.others(within=within)
        finally:
            self._plugins_only = False

    async def others(self, *, within: float = tuning.HOLDERS_ANSWER_WITHIN) -> bool:
        """True when another process runs shards or may run them; waits `within` seconds for an answer.

        When it is False, the caller has to hold shards before it awaits anything else: until then it is
        told as one that asks, and after that as nobody. Not to be called again before it has returned.

        Raises `DependencyUnavailable` when NATS is away: then nobody can tell.
        """
        began, disconnects = time.monotonic(), self._peers.disconnects
        self._must_wait = asyncio.Event()
        self._asking = True
        try:
            await self._peers.ask(self._id, self._on_answer, self._must_wait, within=within, all_asked=True)
            # Silence proves something only while it could have been broken.
            if self._peers.disconnects != disconnects:
                raise DependencyUnavailable("NATS", "the connection was lost")
            # A process that stood still may have been asked meanwhile, and given up on.
            stood_still = time.monotonic() - began > within + tuning.HOLDERS_STOOD_STILL
            return self._must_wait.is_set() or stood_still
        finally:
            self._asking = False

    async def _on_answer(self, message: Msg) -> None:
        if message.data.startswith(_PLUGIN):
            must_wait = self._is_concerned(message.data.removeprefix(_PLUGIN))
        else:
            must_wait = not self._plugins_only and (message.data == _HOLDS or message.data < self._id)
        if must_wait:
            self._must_wait.set()

    def _is_concerned(self, held: bytes) -> bool:
        """Whether the shards that a plugin holds are among those wanted here, or overlap with them."""
        if self._wanted is None:
            return True
        try:
            count, shard_ids = msgspec.json.decode(held, type=tuple[int, list[int]])
        except UNREADABLE:
            return True
        wanted_count, wanted = self._wanted()
        return count != wanted_count or not set(wanted).isdisjoint(shard_ids)

    async def _on_question(self, message: Msg) -> None:
        if message.data == self._id:
            return
        if self._holds():
            answer = _HOLDS
            if self._plugin is not None:
                count, shard_ids = self._plugin()
                answer = _PLUGIN + msgspec.json.encode((count, sorted(shard_ids)))
            await self._peers.answer(message, answer)
        elif self._asking:
            if message.data and message.data < self._id and not self._plugins_only:
                self._must_wait.set()
            await self._peers.answer(message, self._id)


class Presence:
    """Answers for this process, and tells whether others are gone, before their leases have lapsed.

    A process that is killed leaves nothing behind, and waiting until its leases lapse costs its events six
    seconds; and who only starts when they have lapsed waits as long once more, as the database may have been
    away from everybody. So its leases are taken at once when both servers say that it is gone:

    - PostgreSQL: the session by which it says that it lives is over (see `postgres.sessions`).
    - NATS: nobody hears the subject on which it answers to its id. The server tells that at once. It is asked
      twice, and in between the asker calls itself, which proves that its own connection stands and that such
      subjects may be heard.

    Neither alone is enough. A process that is cut off from PostgreSQL alone answers over NATS; one that is
    frozen keeps both connections, and does not answer, which is no "nobody hears it"; while NATS restarts
    everybody is missing there, and their sessions in PostgreSQL are not; after a restart of PostgreSQL
    nothing is said of earlier sessions. A process that lost both connections, and lives, is harmed by nobody
    and harms nobody: it can only publish over a new connection to NATS, and then it sends nothing before it
    has asked PostgreSQL for its lease (`LeaseKeeper.nats_is_back`).

    The order of things proves it. The taker reads the lease, asks NATS, and then takes the lease only if
    nobody has renewed it since it was read, in one UPDATE: of two takers one finds it so, and a holder that
    came back in between has renewed it, or finds it gone.

    In a cluster of NATS servers one that has lost its route to another does not know who is connected there.
    That is why PostgreSQL has to say it, too: between machines that can't reach each other a session does not
    end, it hangs.
    """

    def __init__(
        self,
        connection: NatsConnection,
        application_id: int,
        process_id: UUID,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`sleep` is in seconds."""
        self._application_id = application_id
        self._own = self._subject_of(process_id)
        self._peers = PeerSubject(connection, self._own)
        self._sleep = sleep

    async def start(self) -> None:
        """Answer from now on, also after reconnects; before this process takes a lease."""
        await self._peers.hear(self._on_question)

    async def close(self) -> None:
        """Answer no more, after the leases are given up; harmless when never started."""
        await self._peers.close()

    async def is_gone(self, process_id: UUID) -> bool:
        """True when NATS has no connection of that process; False when it has, or that can't be told."""
        disconnects = self._peers.disconnects
        theirs = self._subject_of(process_id)
        for subject, expected in ((theirs, False), (self._own, True), (theirs, False)):
            if await self._peers.is_heard(subject, within=tuning.PRESENCE_ANSWER_WITHIN) is not expected:
                return False
            if subject == self._own:
                await self._sleep(tuning.PRESENCE_ASKED_AGAIN_AFTER)
        return self._peers.disconnects == disconnects

    def _subject_of(self, process_id: UUID) -> str:
        return subjects.gateway_process_subject(self._application_id, process_id)

    async def _on_question(self, message: Msg) -> None:
        await self._peers.answer(message, b"")


class Peers:
    """All of it, for one process that keeps leases."""

    def __init__(
        self, connection: NatsConnection, application_id: int, process_id: UUID, holders: ShardHolders
    ) -> None:
        self.holders = holders
        self.takeovers = Takeovers(connection, application_id)
        self.presence = Presence(connection, application_id, process_id)
        self._connection = connection
        self._hooks: list[tuple[list[Callable[[], None]], Callable[[], None]]] = []

    async def begin(self, keeper: LeaseKeeper) -> None:
        """Answer, and tell `keeper`, from now on; before it takes a lease."""
        await self.presence.start()
        await self.holders.start()
        self._hooks = [
            (self._connection.on_disconnect, keeper.nats_is_away),
            (self._connection.on_reconnect, keeper.nats_is_back),
        ]
        for listeners, hook in self._hooks:
            listeners.append(hook)
        await self.takeovers.hear(keeper.taken)

    async def close(self) -> None:
        """Answer no more, after the leases are given up; harmless when never begun."""
        hooks, self._hooks = self._hooks, []
        for listeners, hook in hooks:
            listeners.remove(hook)
        await self.holders.close()
        await self.takeovers.close()
        await self.presence.close()
