"""Which events of a gateway session are stored already.

A process that goes on with another one's session gets what is not known to be acknowledged once more, by
replay. A repeated message id makes that harmless only within one stream: a guild whose route changed in
between would find the event on both sides. So what the streams hold is asked for first.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import nats.errors
import structlog
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable

from .errors import translating

if TYPE_CHECKING:
    from nats.js import JetStreamContext

_log = structlog.get_logger("sandbox.nats")

_BATCH = 500
_FETCH_WITHIN = 2.0
_KEPT_UNUSED_SECONDS = 30.0
# The moment comes from another machine's clock.
_CLOCK_MARGIN = 15.0
_STREAMS = (
    (subjects.EVENTS_STREAM, subjects.EVENTS_SUBJECTS),
    (subjects.SANDBOX_STREAM, subjects.SANDBOX_SUBJECTS),
)


class StoredEvents:
    """Reads message ids from both streams, without their payloads."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def sequences(self, session_id: str, shard_id: int, *, after: int, since: float) -> set[int]:
        """The session's sequences beyond `after` that were stored since (seconds since the epoch).

        A missing stream holds none. Raises `DependencyUnavailable` when NATS is away.
        """
        started = time.perf_counter()
        found: set[int] = set()
        prefix = f"{session_id}:{shard_id}:"
        read = 0
        for stream, subject in _STREAMS:
            with translating():
                try:
                    read += await self._collect(stream, subject, prefix, since, found)
                except NotFoundError:
                    continue
        stored = {seq for seq in found if seq > after}
        _log.info(
            "stored_events_read",
            shard=shard_id,
            read=read,
            stored=len(stored),
            seconds=round(time.perf_counter() - started, 3),
        )
        return stored

    async def _collect(self, stream: str, subject: str, prefix: str, since: float, found: set[int]) -> int:
        begin = datetime.fromtimestamp(max(since - _CLOCK_MARGIN, 0.0), UTC)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_TIME,
            opt_start_time=begin,
            ack_policy=AckPolicy.NONE,
            headers_only=True,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=_KEPT_UNUSED_SECONDS,
        )
        subscription = await self._js.pull_subscribe(subject, stream=stream, config=config)
        read = 0
        try:
            left = (await subscription.consumer_info()).num_pending or 0
            while left > 0:
                try:
                    messages = await subscription.fetch(min(left, _BATCH), timeout=_FETCH_WITHIN)
                except nats.errors.TimeoutError:
                    # What was counted may have been removed since: by age, or with its sandbox.
                    left = (await subscription.consumer_info()).num_pending or 0
                    if left:
                        raise DependencyUnavailable("NATS", "a stream can't be read") from None
                    break
                left -= len(messages)
                read += len(messages)
                for message in messages:
                    identity = (message.headers or {}).get("Nats-Msg-Id", "")
                    if identity.startswith(prefix) and identity[len(prefix) :].isdigit():
                        found.add(int(identity[len(prefix) :]))
        finally:
            await self._leave(stream, subscription)
        return read

    async def _leave(self, stream: str, subscription: JetStreamContext.PullSubscription) -> None:
        try:
            info = await subscription.consumer_info()
            await subscription.unsubscribe()
            await self._js.delete_consumer(stream, info.name)
        except (nats.errors.Error, OSError) as error:
            # The server removes a consumer that nobody uses by itself.
            _log.debug("consumer_not_removed", stream=stream, error=type(error).__name__)
