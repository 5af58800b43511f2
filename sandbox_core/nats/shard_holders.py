"""Asks over NATS whether any process runs an application's gateway shards.

For a start while PostgreSQL, which knows who holds which shard, is away: whoever publishes events hears
NATS, so where nobody answers nobody publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable

from .connection import NatsConnection

_log = structlog.get_logger("sandbox.nats")

_ANSWER_WITHIN = 1.0


class ShardHolders:
    """Answers for this process while it `holds` shards, and asks the others."""

    def __init__(self, connection: NatsConnection, application_id: int, holds: Callable[[], bool]) -> None:
        self._connection = connection
        self._subject = subjects.shard_holders_subject(application_id)
        self._holds = holds
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Answer from now on, also after reconnects."""
        self._subscription = await self._connection.client.subscribe(self._subject, cb=self._answer)

    async def close(self) -> None:
        """Answer no more; harmless when never started."""
        if self._subscription is None or not self._connection.connected:
            return
        try:
            await self._subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            _log.debug("holders_not_unsubscribed", error=type(error).__name__)

    async def others(self, *, within: float = _ANSWER_WITHIN) -> bool:
        """True when another process runs shards; waits `within` seconds for an answer.

        Raises `DependencyUnavailable` when NATS is away: then nobody can tell.
        """
        if not self._connection.connected:
            raise DependencyUnavailable("NATS", "not connected")
        client = self._connection.client
        inbox = client.new_inbox()
        answered = asyncio.Event()

        async def on_answer(_: Msg) -> None:
            answered.set()

        try:
            subscription = await client.subscribe(inbox, cb=on_answer)
            try:
                await client.publish(self._subject, reply=inbox)
                async with asyncio.timeout(within):
                    await answered.wait()
            except TimeoutError:
                # Silence proves something only while it could have been broken.
                if not self._connection.connected:
                    raise DependencyUnavailable("NATS", "the connection was lost") from None
            finally:
                await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            raise DependencyUnavailable("NATS", "the connection was lost") from error
        return answered.is_set()

    async def _answer(self, message: Msg) -> None:
        if self._holds() and message.reply:
            try:
                await self._connection.client.publish(message.reply, b"holds")
            except (nats.errors.Error, OSError) as error:
                # Whoever asked finds NATS away as well.
                _log.debug("holders_not_answered", error=type(error).__name__)
