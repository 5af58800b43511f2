"""The sandboxes' streams on a server that they share, where isolation is by convention: one for each.

They are in memory, so a restart of the server removes them, and they are made again. `SlotStreams` has those
of sandboxes with an account of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable, StreamUnusable
from sandbox_core.subjects import is_sandbox_id, sandbox_subjects

from .errors import translating
from .message_ids import Content, MessageIds
from .stream_faults import MADE_BY, MARK, OWNER, FaultKind, is_ours, judge
from .streams import SANDBOX_MAX_AGE, StreamLimits, StreamMaker

_log = structlog.get_logger("sandbox.nats")

EVERY_EVENT = "sandbox.*.events.*"
"""The events in such a stream, without dead letters."""
_AT_ONCE = 8
_LOOK_AGAIN_AFTER = 5.0

Living = Callable[[], Awaitable[Collection[UUID]]]
"""Returns the ids of the running sandboxes that have no account. Raises `DependencyUnavailable`."""


def sandbox_config(limits: StreamLimits, sandbox_id: UUID | str) -> StreamConfig:
    """The configuration of a sandbox's stream."""
    return StreamConfig(
        name=limits.names.sandbox_stream(sandbox_id),
        subjects=[sandbox_subjects(sandbox_id)],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.MEMORY,
        max_age=SANDBOX_MAX_AGE.total_seconds(),
        max_msgs=limits.sandbox_messages,
        max_bytes=limits.sandbox_bytes,
        max_consumers=limits.sandbox_consumers,
        duplicate_window=min(limits.duplicate_window, SANDBOX_MAX_AGE).total_seconds(),
        discard=DiscardPolicy.OLD,
        num_replicas=limits.replicas,
        allow_direct=True,
        # For dead letters, which do not age.
        allow_msg_ttl=True,
        metadata={MADE_BY: MARK, OWNER: str(sandbox_id)},
    )


class SandboxStreams:
    """Makes, finds and removes the streams. Each method raises `DependencyUnavailable` when NATS is away.

    `server` is as for `StreamMaker`; `js` limits each request by its timeout.
    """

    def __init__(
        self, js: JetStreamContext, limits: StreamLimits, *, server: Callable[[], str] = lambda: ""
    ) -> None:
        self.js = js
        self.limits = limits
        self._names = limits.names
        self._maker = StreamMaker(js, server)

    async def make(self, sandbox_id: UUID | str) -> None:
        """Make the sandbox's stream, or bring it to its configuration.

        Raises `StreamUnusable` when somebody else's hinders that.
        """
        await self._maker.ensure(sandbox_config(self.limits, sandbox_id))

    async def readable(self, sandbox_id: UUID | str) -> None:
        """Raise `StreamUnusable` when the bot may not read a message of the sandbox's stream."""
        await self._maker.read(self._names.sandbox_stream(sandbox_id))

    async def info(self, sandbox_id: UUID | str) -> StreamInfo | None:
        """Return the stream with the number of messages of each subject; None when it is missing.

        Raises `StreamUnusable` for a stream of others.
        """
        config = sandbox_config(self.limits, sandbox_id)
        with translating():
            try:
                info = await self.js.stream_info(
                    str(config.name), subjects_filter=sandbox_subjects(sandbox_id)
                )
            except NotFoundError:
                return None
        for fault in judge(info.config, config):
            if fault.kind is FaultKind.FOREIGN:
                raise self._maker.unusable(str(config.name), fault)
        return info

    async def remove(self, sandbox_id: UUID | str) -> None:
        """Remove the sandbox's stream; a missing one, or one of others, is no error."""
        with suppress(StreamUnusable):
            if (info := await self.info(sandbox_id)) is not None:
                with translating(), suppress(NotFoundError):
                    await self.js.delete_stream(str(info.config.name))

    async def purge(self, sandbox_id: UUID | str) -> None:
        """Remove all messages of the sandbox's stream, which is ours; a missing one has none."""
        with translating(), suppress(NotFoundError):
            await self.js.purge_stream(self._names.sandbox_stream(sandbox_id))

    async def names(self) -> list[str]:
        """Return the names of the streams that are there: by the name alone, so perhaps also of others'."""
        found: list[str] = []
        with translating():
            while True:
                # nats-py's own method asks each stream's leader, and waits for one that there is none of.
                asked = f'{{"offset":{len(found)}}}'.encode()
                answer = await self.js._api_request(
                    f"{self.js._prefix}.STREAM.NAMES",
                    asked,
                    timeout=self.js._timeout,
                )
                page = answer.get("streams") or []
                found += page
                if not page or len(found) >= answer["total"]:
                    return [name for name in found if self._names.is_sandbox_stream(name)]

    async def present(self) -> dict[str, StreamInfo]:
        """Return the streams that are there and ours, by their sandboxes' ids."""

        async def ask(name: str) -> StreamInfo | None:
            with translating(), suppress(NotFoundError):
                return await self.js.stream_info(name)
            return None

        infos = await tasks.few_at_once(ask, await self.names(), at_once=_AT_ONCE)
        found = {owner_of(info.config): info for info in infos if info is not None}
        return {sandbox_id: info for sandbox_id, info in found.items() if sandbox_id is not None}


def owner_of(config: StreamConfig) -> str | None:
    """The id of the sandbox that a stream of ours belongs to."""
    owner = (config.metadata or {}).get(OWNER, "")
    return owner if is_ours(config) and is_sandbox_id(owner) else None


class LivingStreams:
    """Ensures that each living sandbox has its stream; for the publisher what `Streams` is for production's.

    One stream that can't be used does not hinder the others.
    """

    def __init__(
        self, streams: SandboxStreams, living: Living, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`monotonic` is the clock in seconds."""
        self._streams = streams
        self._living = living
        self._monotonic = monotonic
        self._looked: dict[UUID, float] = {}
        self._known: Collection[UUID] | None = None
        self._lock = asyncio.Lock()
        self.name = streams.limits.names.sandbox
        """What the streams' names begin with."""
        self.ready = False
        self.obstacle: StreamUnusable | None = None
        """Why one of the streams can't be used."""

    async def ensure(self) -> None:
        """Make the streams that are missing, as far as PostgreSQL says which sandboxes live.

        Raises `DependencyUnavailable` when none could be made.
        """
        async with self._lock:
            self.ready = False
            # Until more is known it is what hinders: whoever asks meanwhile is told so.
            told = self.obstacle
            living = await self._running()
            names, now = set(await self._streams.names()), self._monotonic()
            missing = {
                each for each in living if self._streams.limits.names.sandbox_stream(each) not in names
            }
            # A publication that finds no stream comes here four times a second.
            due = [
                each
                for each in living
                if each in missing or now - self._looked.get(each, -_LOOK_AGAIN_AFTER) >= _LOOK_AGAIN_AFTER
            ]
            failed = [each for each in await tasks.few_at_once(self._make, due, at_once=_AT_ONCE) if each]
            self.obstacle = next((each for each in failed if isinstance(each, StreamUnusable)), None)
            if self.obstacle is not None and (told is None or told.reason != self.obstacle.reason):
                _log.warning("sandbox_stream_unusable", dependency="NATS", reason=self.obstacle.reason)
            away = [each for each in failed if not isinstance(each, StreamUnusable)]
            if away and len(away) == len(due):
                raise away[0]
            self._looked = {each: now if each in due else self._looked[each] for each in living}
            await self._remove_ended(missing)
            self.ready = True

    async def _running(self) -> Collection[UUID]:
        try:
            self._known = await self._living()
        except DependencyUnavailable:
            # While PostgreSQL is away nothing begins or ends: what is known of before is still right. Without
            # that, streams are as others have left them, and no event waits for one that is there.
            return self._known or ()
        return self._known

    async def _make(self, sandbox_id: UUID) -> DependencyUnavailable | None:
        try:
            await self._streams.make(sandbox_id)
            await self._streams.readable(sandbox_id)
        except DependencyUnavailable as error:
            return error
        return None

    async def _remove_ended(self, made: Collection[UUID]) -> None:
        """Remove streams again whose sandboxes have ended while they were made."""
        if made:
            for each in set(made) - set(await self._running()):
                await self._streams.remove(each)


class SandboxReads:
    """Reads all these streams back, as far as they are there."""

    def __init__(self, message_ids: MessageIds, streams: SandboxStreams) -> None:
        self._message_ids = message_ids
        self._streams = streams

    async def read(self, begin: datetime, found: Callable[[str], None]) -> None:
        """See `MessageIds.read`."""
        await self._each(lambda name: self._message_ids.read(name, EVERY_EVENT, begin, found))

    async def read_whole(self, begin: datetime, found: Callable[[Content], None]) -> None:
        """See `MessageIds.read_whole`."""
        await self._each(lambda name: self._message_ids.read_whole(name, EVERY_EVENT, begin, found))

    async def _each(self, question: Callable[[str], Awaitable[None]]) -> None:
        await tasks.few_at_once(question, await self._streams.names(), at_once=_AT_ONCE)
