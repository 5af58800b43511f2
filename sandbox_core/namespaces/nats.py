"""A sandbox's part of NATS where isolation is by convention: a stream of its own on a server for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from sandbox_core.errors import SandboxError, StreamUnusable
from sandbox_core.models import Sandbox
from sandbox_core.nats.errors import translating
from sandbox_core.nats.sandbox_streams import EVERY_EVENT, SandboxStreams
from sandbox_core.subjects import sandbox_dead_letters, sandbox_filter
from sandbox_core.templates import Template
from sandbox_core.words import counted

from .amounts import Amount, Pace
from .base import IsOrphan, PartHealth, PartState, drop_orphan
from .credentials import Credentials


class NatsNamespace:
    """The streams of sandboxes without an account.

    A missing stream counts as empty: it is in memory, so a restart of its server removes it, and the bot's
    publisher creates it again. A stream of others with this name is left alone.
    """

    store = "NATS"
    credentials: Credentials | None = None

    def __init__(
        self, streams: SandboxStreams, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._streams = streams
        self._clock = clock

    async def provision(self, sandbox: Sandbox) -> None:
        """Make the sandbox's stream.

        Raises `DependencyUnavailable` when JetStream is away, or a stream of others hinders it.
        """
        try:
            await self._streams.make(sandbox.id)
        except BaseException:
            # The caller needs its own error. What is left is found as an orphan.
            with suppress(SandboxError):
                await asyncio.shield(self.drop(sandbox))
            raise

    async def drop(self, sandbox: Sandbox) -> None:
        """Remove the stream, with all its messages and consumers."""
        await self._streams.remove(sandbox.id)

    async def fill(self, _sandbox: Sandbox, _template: Template) -> None:
        """Do nothing: a template is SQL."""

    async def renew(self, sandbox: Sandbox, _template: Template | None) -> None:
        """Remove the messages of the stream. Its consumers stay, behind the last of them.

        The stream itself stays, so that no event that comes meanwhile waits, or is lost.
        """
        await self._streams.make(sandbox.id)
        await self._streams.purge(sandbox.id)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check that the stream exists.

        `facts` has `messages` (but for dead letters), `dead_letters`, `consumers` and `bytes`, the first and
        the last two each with its `…_limit`, and, if there are messages, `last_event_age_s` in seconds.
        """
        facts: dict[str, int | float | str] = {"subjects": sandbox_filter(sandbox.id)}
        started = time.perf_counter()
        try:
            info = await self._streams.info(sandbox.id)
        except StreamUnusable as error:
            latency = (time.perf_counter() - started) * 1000
            return PartHealth(self.store, PartState.UNHEALTHY, error.reason, latency, facts)
        latency = (time.perf_counter() - started) * 1000
        if info is None:
            name = self._streams.limits.names.sandbox_stream(sandbox.id)
            detail = f"the stream {name} is missing and will be created again"
            return PartHealth(self.store, PartState.DEGRADED, detail, latency, facts | {"messages": 0})
        letters_begin = sandbox_dead_letters(sandbox.id).removesuffix(">")
        counts = info.state.subjects or {}
        letters = sum(counts[each] for each in counts if each.startswith(letters_begin))
        facts |= {
            "messages": (stored := sum(counts.values()) - letters),
            "messages_limit": info.config.max_msgs or 0,
            "dead_letters": letters,
            "consumers": info.state.consumer_count,
            "consumers_limit": info.config.max_consumers or 0,
            "bytes": info.state.bytes,
            "bytes_limit": info.config.max_bytes or 0,
        }
        age = await self._last_event_age(info) if stored else None
        more = f", {counted(letters, 'dead letter', 'dead letters')}" if letters else ""
        if age is None:
            return PartHealth(self.store, PartState.HEALTHY, f"no events stored{more}", latency, facts)
        facts["last_event_age_s"] = age
        detail = f"{counted(stored, 'event', 'events')} stored, the last one {age:.0f} s old{more}"
        return PartHealth(self.store, PartState.HEALTHY, detail, latency, facts)

    async def _last_event_age(self, info: StreamInfo) -> float | None:
        with translating():
            try:
                message = await self._streams.js.get_last_msg(str(info.config.name), EVERY_EVENT)
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
        """Return the UUIDs of sandboxes with a stream."""
        return set(await self._streams.present())

    async def list_whole(self) -> set[str]:
        """Return none: a part may be empty."""
        return set()

    def always_has(self, _sandbox: Sandbox) -> str:
        """Return "": the publisher makes a missing stream again."""
        return ""

    def name_of(self, listed_id: str) -> str:
        """Return the filter of the sandbox's subjects."""
        return sandbox_filter(listed_id)

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Do as `Namespace` documents."""
        return await drop_orphan(self, listed_id, is_orphan)
