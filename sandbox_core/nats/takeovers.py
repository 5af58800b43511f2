"""Telling over NATS who took a gateway shard whose lease had lapsed.

The earlier holder is dead as a rule. It may also be a process that alone is cut off from PostgreSQL, does
not know that its leases have lapsed, and goes on publishing. Whoever can publish events can hear this. It is
an ordinary message outside both streams: one that is lost is not repeated by NATS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import msgspec
import nats.errors
import structlog

from sandbox_core import subjects

from .connection import NatsConnection

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_log = structlog.get_logger("sandbox.nats")

STOPS_WITHIN = 0.5
"""Seconds that an earlier holder which lives has, as a rule, to hear it and to stop."""


class _Message(msgspec.Struct):
    shard_count: int
    epochs: dict[int, int]


_decode = msgspec.json.Decoder(_Message).decode
_decode_lost = msgspec.json.Decoder(list[int]).decode

OnTakeover = Callable[[int, Mapping[int, int]], Collection[int]]
"""Told a number of shards, and by shard the epoch of its new holder; returns the shards lost here by that."""


class Takeovers:
    """Tells and hears takeovers of one application's shards."""

    def __init__(self, connection: NatsConnection, application_id: int) -> None:
        self._connection = connection
        self._subject = subjects.shard_takeovers_subject(application_id)
        self._subscription: Subscription | None = None

    async def tell(self, shard_count: int, epochs: Mapping[int, int], *, within: float = 0.0) -> None:
        """Tell every process that is connected that these shards were taken, by shard with the epoch.

        Returns when earlier holders have answered that they lost them all, after `within` seconds at most.
        What such a holder has published is with the server before its answer. Nothing happens without a
        connection.
        """
        if not self._connection.connected:
            return
        client = self._connection.client
        message = msgspec.json.encode(_Message(shard_count, dict(epochs)))
        try:
            if within <= 0:
                await client.publish(self._subject, message)
                return
            missing, all_lost = set(epochs), asyncio.Event()

            async def on_answer(answer: Msg) -> None:
                try:
                    missing.difference_update(_decode_lost(answer.data))
                except msgspec.MsgspecError:
                    _log.warning("takeover_answer_unreadable", bytes=len(answer.data))
                if not missing:
                    all_lost.set()

            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox, cb=on_answer)
            try:
                await client.publish(self._subject, message, reply=inbox)
                async with asyncio.timeout(within):
                    await all_lost.wait()
            except TimeoutError:
                # The rule: who had the shards is dead.
                _log.debug("takeover_not_answered", shards=sorted(missing))
            finally:
                await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            # A second way to say it: the database says it too, and Discord closes the older connection.
            _log.debug("takeover_not_told", error=type(error).__name__)

    async def hear(self, on_takeover: OnTakeover) -> None:
        """Tell `on_takeover` from now on, also after reconnects."""

        async def received(message: Msg) -> None:
            try:
                said = _decode(message.data)
            except msgspec.MsgspecError:
                _log.warning("takeover_unreadable", bytes=len(message.data))
                return
            lost = on_takeover(said.shard_count, said.epochs)
            if lost and message.reply:
                try:
                    await self._connection.client.publish(message.reply, msgspec.json.encode(sorted(lost)))
                except (nats.errors.Error, OSError) as error:
                    # Whoever waits for it waits for half a second.
                    _log.debug("takeover_not_answered", error=type(error).__name__)

        self._subscription = await self._connection.client.subscribe(self._subject, cb=received)

    async def close(self) -> None:
        """Hear no more; harmless when never begun."""
        if self._subscription is None or not self._connection.connected:
            return
        try:
            await self._subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            _log.debug("takeovers_not_unsubscribed", error=type(error).__name__)
