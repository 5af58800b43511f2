"""One subject, outside of every stream, on which processes tell or ask each other something.

Whoever can publish events can hear it. It is an ordinary message: one that is lost is not repeated by NATS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import nats.errors
import structlog

from sandbox_core.errors import DependencyUnavailable

from .connection import NatsConnection

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_log = structlog.get_logger("sandbox.nats")

_LOST = (nats.errors.Error, OSError)
_FLUSH_WITHIN = 2

Received = Callable[["Msg"], Awaitable[None]]


class PeerSubject:
    """Tells, asks and hears on one subject."""

    def __init__(self, connection: NatsConnection, subject: str) -> None:
        self.disconnects = 0
        """How often the connection was lost while this was heard."""
        self._connection = connection
        self._subject = subject
        self._subscription: Subscription | None = None

    async def hear(self, received: Received) -> None:
        """Give every message to `received` from now on, also after reconnects."""
        self._connection.on_disconnect.append(self._on_disconnect)
        self._subscription = await self._connection.client.subscribe(self._subject, cb=received)

    async def close(self) -> None:
        """Hear no more; harmless when never begun."""
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        self._connection.on_disconnect.remove(self._on_disconnect)
        if not self._connection.connected:
            return
        try:
            await subscription.unsubscribe()
        except _LOST as error:
            _log.debug("not_unsubscribed", subject=self._subject, error=type(error).__name__)

    async def tell(self, data: bytes) -> None:
        """Tell everybody who is connected; without a connection nobody."""
        await self._publish(self._subject, data)

    async def answer(self, question: Msg, data: bytes) -> None:
        """Answer, when an answer is asked for. Whoever asked finds NATS away as well when that fails."""
        if question.reply:
            await self._publish(question.reply, data)

    async def ask(
        self,
        data: bytes,
        on_answer: Received,
        enough: asyncio.Event,
        *,
        within: float,
        all_asked: bool = False,
    ) -> None:
        """Ask everybody; return when it is `enough`, after `within` seconds at the latest.

        With `all_asked` also what others asked until then has been heard. Raises `DependencyUnavailable`
        when the connection is lost meanwhile.
        """
        if not self._connection.connected:
            raise DependencyUnavailable("NATS", "not connected")
        client, inbox = self._connection.client, self._connection.client.new_inbox()
        try:
            subscription = await client.subscribe(inbox, cb=on_answer)
            try:
                await client.publish(self._subject, data, reply=inbox)
                async with asyncio.timeout(within):
                    await enough.wait()
            except TimeoutError:
                if all_asked:
                    # What was asked while this process was busy stands before the answer to this.
                    await client.flush(_FLUSH_WITHIN)
            finally:
                await subscription.unsubscribe()
        except (*_LOST, TimeoutError) as error:
            raise DependencyUnavailable("NATS", "the connection was lost") from error

    async def is_heard(self, subject: str, *, within: float) -> bool | None:
        """Whether anybody hears `subject`: False when the server says that nobody does.

        None when that can't be told: no answer `within` seconds, or no connection.
        """
        if not self._connection.connected:
            return None
        try:
            await self._connection.client.request(subject, b"", timeout=within)
        except nats.errors.NoRespondersError:
            return False
        except (*_LOST, TimeoutError):
            return None
        return True

    async def _publish(self, subject: str, data: bytes) -> None:
        if not self._connection.connected:
            return
        try:
            await self._connection.client.publish(subject, data)
        except _LOST as error:
            _log.debug("not_told", subject=subject, error=type(error).__name__)

    def _on_disconnect(self) -> None:
        self.disconnects += 1
