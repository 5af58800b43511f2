"""A durable consumer's events, one after the other, and what becomes of those that nobody can handle.

JetStream counts a delivery when it sends a message, not when somebody begins to handle it. An event that
kills its worker would so take those with it that were fetched behind it. That is why nothing is fetched
behind an event that was delivered before: only the event in hand can be the one that fails.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from ..errors import DependencyUnavailable
from ..nats.connection import NatsConnection
from ..nats.delivered import Event, event_of
from ..nats.errors import translating
from ._dead_letters import DeadLetterBox

_log = structlog.get_logger("sandbox.context")

ACK_WAIT_SECONDS = 60.0
_FETCH_SECONDS = 5.0
_RETRY_SECONDS = 0.5
# The pauses before an event comes again: 1 s, 4 s, 16 s, and then a minute each.
_PAUSE_GROWS, _LONGEST_PAUSE = 4.0, 60.0

Subscription = JetStreamContext.PullSubscription
Subscribe = Callable[[], Awaitable[Subscription]]


class Events(AsyncIterator[Event]):
    """What `SandboxContext.events` returns: iterate over it, best inside `contextlib.aclosing`."""

    def __init__(
        self,
        subscribe: Subscribe,
        connection: NatsConnection,
        letters: DeadLetterBox,
        *,
        batch: int,
        max_deliveries: int,
        wanted: frozenset[str] | None = None,
    ) -> None:
        """`wanted` are the subjects that the caller gets; without it, all of the consumer's."""
        self._wanted = wanted
        self._subscribe = subscribe
        self._connection = connection
        self._letters = letters
        self._batch = batch
        self._max_deliveries = max_deliveries
        self._fetched: deque[Msg] = deque()
        """What is to be handled; the event in hand comes first."""
        self._answered = False
        """The event in hand was given back or made a dead letter already."""
        self._raised: BaseException | None = None
        """What was being handled in the caller as it asked for the event in hand: not that event's fault."""
        self._generator = self._events()

    def __aiter__(self) -> Events:
        return self

    def __anext__(self) -> Awaitable[Event]:
        self._raised = sys.exception()
        return self._generator.__anext__()

    async def aclose(self) -> None:
        """End, and give back what is not handled. `contextlib.aclosing` calls it.

        After an exception of the handling, an event that was delivered often enough becomes a dead letter.
        """
        error = sys.exception()
        failed = isinstance(error, Exception) and error is not self._raised and not self._answered
        if failed and self._fetched and self._is_last_delivery(self._fetched[0]):
            try:
                await self._bury(self._fetched.popleft(), error)
            except DependencyUnavailable as away:
                _log.debug("events_not_given_back", reason=away.reason)
        await self._generator.aclose()

    async def failed(self, error: Exception) -> None:
        """The event in hand could not be handled: it comes again later, or becomes a dead letter."""
        message = self._fetched[0]
        number = message.metadata.num_delivered
        _log.warning(
            "event_not_handled", type=message.subject.rsplit(".", 1)[-1], delivery=number, error=_name(error)
        )
        self._answered = True
        try:
            if self._is_last_delivery(message):
                await self._bury(message, error)
            else:
                with translating():
                    await message.nak(min(_PAUSE_GROWS ** (number - 1), _LONGEST_PAUSE))
        except DependencyUnavailable as away:
            # It comes again by itself.
            _log.debug("events_not_given_back", reason=away.reason)

    async def _events(self) -> AsyncGenerator[Event, None]:
        while True:
            try:
                subscription = await self._subscribe()
            except DependencyUnavailable as error:
                if self._connection.client.is_closed:
                    # The context was left: no more events can come.
                    raise
                _log.warning("events_wait", dependency=error.dependency, reason=error.reason)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            fetched = self._fetched = deque()
            # Alone at first: it may be what ended the worker the last time.
            size = 1
            try:
                while (messages := await _fetch(subscription, size)) is not None:
                    if messages:
                        size = self._batch if all(map(_is_first_delivery, messages)) else 1
                        fetched.extend(await _alone(messages))
                    while fetched:
                        if self._wanted is not None and fetched[0].subject not in self._wanted:
                            with translating():
                                await fetched.popleft().ack()
                            continue
                        if fetched[0].metadata.num_delivered > self._max_deliveries:
                            await self._bury(fetched.popleft(), None)
                            continue
                        self._answered = False
                        yield event_of(fetched[0])
                        message = fetched.popleft()
                        if not self._answered:
                            with translating():
                                await message.ack()
            finally:
                await _leave(subscription, fetched, answered=self._answered)
            await asyncio.sleep(_RETRY_SECONDS)

    def _is_last_delivery(self, message: Msg) -> bool:
        return message.metadata.num_delivered >= self._max_deliveries

    async def _bury(self, message: Msg, error: BaseException | None) -> None:
        """Make it a dead letter, and acknowledge it then. Raises `DependencyUnavailable`."""
        kept = await self._letters.keep(message, None if error is None else _name(error))
        with translating():
            if kept:
                await message.ack()
            else:
                # The events behind it do not wait for whatever hinders that.
                await message.nak(_LONGEST_PAUSE)


def _name(error: BaseException) -> str:
    # The type alone: a text may hold what is secret.
    return type(error).__name__


def _is_first_delivery(message: Msg) -> bool:
    return message.metadata.num_delivered == 1


async def _alone(messages: Sequence[Msg]) -> list[Msg]:
    """Give back what was delivered before, but for the first: each of those is to be fetched alone."""
    kept = [messages[0]]
    for message in messages[1:]:
        if _is_first_delivery(message):
            kept.append(message)
        else:
            with translating():
                await message.nak()
    return kept


async def _fetch(subscription: Subscription, batch: int) -> list[Msg] | None:
    """Return the next messages, an empty list after the limit, or None when the consumer is gone."""
    try:
        return await subscription.fetch(batch, timeout=_FETCH_SECONDS)
    except nats.errors.TimeoutError:
        # A consumer that is gone gives the same answer; its information shows the difference.
        try:
            await subscription.consumer_info()
        except (nats.errors.Error, OSError):
            return None
        return []
    except (nats.errors.Error, OSError) as error:
        _log.warning("events_fetch_failed", error=type(error).__name__)
        return None


async def _leave(subscription: Subscription, unhandled: deque[Msg], *, answered: bool) -> None:
    if answered and unhandled:
        unhandled.popleft()
    try:
        while unhandled:
            # Another worker can get it at once, not only after the ack's deadline.
            await unhandled.popleft().nak()
        await subscription.unsubscribe()
    except (nats.errors.Error, OSError) as error:
        # The connection is lost, and the subscription with it.
        _log.debug("events_not_given_back", error=type(error).__name__)
