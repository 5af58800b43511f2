"""A sandbox's part of NATS: the subjects `sandbox.{sandbox_id}.>` in the sandboxes' stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, StreamInfo
from nats.js.errors import NotFoundError

from sandbox_core.errors import StreamUnusable
from sandbox_core.models import Sandbox
from sandbox_core.nats.errors import translating
from sandbox_core.nats.stream_faults import is_ours
from sandbox_core.subjects import (
    DEFAULT_NAMES,
    SANDBOX_SUBJECTS,
    nats_prefix,
    sandbox_dead_letters,
    sandbox_filter,
    sandbox_of,
)
from sandbox_core.words import counted

from .amounts import Amount, Pace
from .base import IsOrphan, PartHealth, PartState, drop_orphan
from .credentials import Credentials

_NOTHING_OF_OURS = (NotFoundError, StreamUnusable)
"""The errors for a stream that is missing or belongs to others: no sandbox has events in it."""


class NatsNamespace:
    """Subjects need no preparation: provisioning only checks that JetStream answers.

    Another module creates the stream. A missing stream counts as empty: it is in memory, so a restart of its
    server removes it, and the bot's publisher creates it again. A stream of others is left alone: it contains
    no events of sandboxes.
    """

    store = "NATS"
    credentials: Credentials | None = None

    def __init__(
        self,
        js: JetStreamContext,
        *,
        stream: str = DEFAULT_NAMES.sandbox,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`js` limits each request by its timeout."""
        self._js = js
        self._stream = stream
        self._clock = clock

    async def provision(self, sandbox: Sandbox) -> None:
        """Check that the sandbox would get events.

        Raises `DependencyUnavailable` when JetStream is away, or the stream belongs to others.
        """
        with translating():
            await self._js.account_info()
            with suppress(NotFoundError):
                await self._info()

    async def drop(self, sandbox: Sandbox) -> None:
        """Remove the consumers that read only this sandbox, then all its messages."""
        prefix = nats_prefix(sandbox.id)
        with translating():
            try:
                await self._info()
                names = [c.name async for c in self._consumers() if _reads_only(c, prefix)]
                for name in names:
                    await self._delete_consumer(name)
                await self._js.purge_stream(self._stream, subject=sandbox_filter(sandbox.id))
            except _NOTHING_OF_OURS:
                return

    async def _delete_consumer(self, name: str) -> None:
        try:
            await self._js.delete_consumer(self._stream, name)
        except NotFoundError:
            # The consumer or the stream was removed meanwhile; the purge finds out which.
            return

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check that the stream exists.

        `facts` has `messages` (of the sandbox, but for dead letters), `dead_letters`, `consumers` (that read
        only the sandbox) and, if there are messages, `last_event_age_s` in seconds.
        """
        subject_filter = sandbox_filter(sandbox.id)
        letters_begin = sandbox_dead_letters(sandbox.id).removesuffix(">")
        facts: dict[str, int | float | str] = {"subjects": subject_filter}
        started = time.perf_counter()
        with translating():
            try:
                info = await self._info(subject_filter)
                latency = (time.perf_counter() - started) * 1000
                prefix = nats_prefix(sandbox.id)
                counts = info.state.subjects or {}
                letters = sum(counts[each] for each in counts if each.startswith(letters_begin))
                facts["messages"] = waiting = sum(counts.values()) - letters
                facts["dead_letters"] = letters
                facts["consumers"] = len([c async for c in self._consumers() if _reads_only(c, prefix)])
            except NotFoundError:
                latency = (time.perf_counter() - started) * 1000
                detail = f"the stream {self._stream} is missing and will be created again"
                return PartHealth(self.store, PartState.DEGRADED, detail, latency, facts | {"messages": 0})
            except StreamUnusable as error:
                latency = (time.perf_counter() - started) * 1000
                return PartHealth(self.store, PartState.UNHEALTHY, error.reason, latency, facts)
            age = await self._last_event_age(subject_filter) if waiting else None
        more = f", {counted(letters, 'dead letter', 'dead letters')}" if letters else ""
        if age is None:
            return PartHealth(self.store, PartState.HEALTHY, f"no events waiting{more}", latency, facts)
        facts["last_event_age_s"] = age
        detail = f"{counted(waiting, 'event', 'events')} waiting, the last one {age:.0f} s old{more}"
        return PartHealth(self.store, PartState.HEALTHY, detail, latency, facts)

    async def _last_event_age(self, subject_filter: str) -> float | None:
        try:
            message = await self._js.get_last_msg(self._stream, subject_filter)
        except NotFoundError:
            return None
        if message.time is None:
            return None
        # The clocks of the two machines may differ a little.
        return max(0.0, (self._clock() - message.time).total_seconds())

    async def measure(self, _sandboxes: Sequence[Sandbox], _pace: Pace) -> Mapping[UUID, Amount]:
        """Return nothing: the server limits the streams."""
        return {}

    async def list_ids(self) -> set[str]:
        """Return the UUIDs of sandboxes with messages or consumers.

        The server names at most 100,000 subjects in one answer; the rest is found after these are cleaned up.
        """
        found: set[str] = set()
        with translating():
            try:
                info = await self._info(SANDBOX_SUBJECTS)
                found.update(_ids(info.state.subjects or {}))
                async for consumer in self._consumers():
                    found.update(_ids(_filters(consumer)))
            except _NOTHING_OF_OURS:
                return set()
        return found

    async def list_whole(self) -> set[str]:
        """Return none: a part may be empty."""
        return set()

    def always_has(self, _sandbox: Sandbox) -> str:
        """Return "": a part may be empty."""
        return ""

    def name_of(self, listed_id: str) -> str:
        """Return the filter of the sandbox's subjects."""
        return sandbox_filter(listed_id)

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Do as `Namespace` documents."""
        return await drop_orphan(self, listed_id, is_orphan)

    async def _info(self, subjects_filter: str | None = None) -> StreamInfo:
        """Return the stream's information.

        Raises `NotFoundError` for a missing stream, and `StreamUnusable` for a stream of others.
        """
        info = await self._js.stream_info(self._stream, subjects_filter=subjects_filter)
        if not is_ours(info.config):
            raise StreamUnusable(
                self._stream,
                "",
                "is not this bot's and is left alone",
                "Set NATS_SANDBOX_STREAM to another name, or use a NATS account of the bot's own.",
            )
        return info

    async def _consumers(self) -> AsyncIterator[ConsumerInfo]:
        offset = 0
        while page := await self._js.consumers_info(self._stream, offset):
            for consumer in page:
                yield consumer
            offset += len(page)


def _filters(consumer: ConsumerInfo) -> list[str]:
    config = consumer.config
    single = [config.filter_subject] if config.filter_subject else []
    return single + list(config.filter_subjects or [])


def _reads_only(consumer: ConsumerInfo, prefix: str) -> bool:
    filters = _filters(consumer)
    return bool(filters) and all(subject.startswith(prefix) for subject in filters)


def _ids(subjects: Iterable[str]) -> set[str]:
    return {sandbox_id for sandbox_id in map(sandbox_of, subjects) if sandbox_id is not None}
