"""Asks over NATS whether any process runs an application's gateway shards, or is about to.

For a start while PostgreSQL, which knows who holds which shard, is away: whoever publishes events hears
NATS, so where nobody answers nobody publishes. Of several processes that ask at the same time one may go on:
the one with the lowest id, which each draws for itself.

Of two that ask, at least one hears the other's question, as both have subscribed long before they ask. It
holds shards by then, which it answers; or it still asks, and yields to a lower id or answers with its own.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable

from .connection import NatsConnection

_log = structlog.get_logger("sandbox.nats")

_ANSWER_WITHIN = 1.0
_FLUSH_WITHIN = 2
_STOOD_STILL = 0.5
_HOLDS = b"holds"
_PLUGIN = b"plugin"
# Ids are hexadecimal, so that what holders say is none.
_ID_BYTES = 16


Shards = tuple[int, Collection[int]]
"""How many shards there are, and some of them."""


class ShardHolders:
    """Answers for this process while it `holds` shards or asks, and asks the others.

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
        self._connection = connection
        self._subject = subjects.shard_holders_subject(application_id)
        self._holds = holds
        self._plugin = plugin
        self._wanted = wanted
        self._plugins_only = False
        self._id = secrets.token_hex(_ID_BYTES).encode()
        self._asking = False
        self._must_wait = asyncio.Event()
        """Somebody holds shards, or asks with a lower id."""
        self._disconnects = 0
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Answer from now on, also after reconnects."""
        self._connection.on_disconnect.append(self._on_disconnect)
        self._subscription = await self._connection.client.subscribe(self._subject, cb=self._on_question)

    async def close(self) -> None:
        """Answer no more; harmless when never started."""
        if self._subscription is None:
            return
        self._connection.on_disconnect.remove(self._on_disconnect)
        subscription, self._subscription = self._subscription, None
        if not self._connection.connected:
            return
        try:
            await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            _log.debug("holders_not_unsubscribed", error=type(error).__name__)

    async def plugins(self, *, within: float = _ANSWER_WITHIN) -> bool:
        """As `others`, but only plugins count."""
        self._plugins_only = True
        try:
            return await self.others(within=within)
        finally:
            self._plugins_only = False

    async def others(self, *, within: float = _ANSWER_WITHIN) -> bool:
        """True when another process runs shards or may run them; waits `within` seconds for an answer.

        When it is False, the caller has to hold shards before it awaits anything else: until then it is
        told as one that asks, and after that as nobody. Not to be called again before it has returned.

        Raises `DependencyUnavailable` when NATS is away: then nobody can tell.
        """
        if not self._connection.connected:
            raise DependencyUnavailable("NATS", "not connected")
        began, disconnects = time.monotonic(), self._disconnects
        self._must_wait = asyncio.Event()
        self._asking = True
        try:
            await self._ask(within)
            # Silence proves something only while it could have been broken.
            if self._disconnects != disconnects:
                raise DependencyUnavailable("NATS", "the connection was lost")
            # A process that stood still may have been asked meanwhile, and given up on.
            return self._must_wait.is_set() or time.monotonic() - began > within + _STOOD_STILL
        finally:
            self._asking = False

    async def _ask(self, within: float) -> None:
        client = self._connection.client
        inbox = client.new_inbox()
        try:
            subscription = await client.subscribe(inbox, cb=self._on_answer)
            try:
                await client.publish(self._subject, self._id, reply=inbox)
                async with asyncio.timeout(within):
                    await self._must_wait.wait()
            except TimeoutError:
                # What others asked while this process was busy stands before the answer to this.
                await client.flush(_FLUSH_WITHIN)
            finally:
                await subscription.unsubscribe()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise DependencyUnavailable("NATS", "the connection was lost") from error

    def _on_disconnect(self) -> None:
        self._disconnects += 1

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
        except msgspec.MsgspecError:
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
        elif self._asking:
            answer = self._id
            # An earlier version asks without an id, takes any answer for a holder's, and waits.
            if message.data and message.data < self._id and not self._plugins_only:
                self._must_wait.set()
        else:
            return
        if message.reply:
            try:
                await self._connection.client.publish(message.reply, answer)
            except (nats.errors.Error, OSError) as error:
                # Whoever asked finds NATS away as well.
                _log.debug("holders_not_answered", error=type(error).__name__)
