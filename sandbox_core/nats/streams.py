"""The two streams: made at start, made again whenever they are missing, and changed with the settings.

A memory stream is gone, not only empty, after its server restarts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import nats.js.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable

from .errors import translating

_log = structlog.get_logger("sandbox.nats")

_SANDBOX_MAX_AGE = timedelta(minutes=5)
_SANDBOX_MAX_MESSAGES = 500_000
DUPLICATE_WINDOW = timedelta(minutes=5)
"""Repeats of an event are recognised by their message id for this long.

JetStream allows no window longer than a stream's age, and Discord keeps a session resumable for a few
minutes.
"""

_DECIDED = ("subjects", "retention", "storage", "max_age", "max_msgs", "duplicate_window", "num_replicas")
"""What this project decides about a stream; the order of the names is that of a message about them."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the settings decide about the streams."""

    replicas: int = 1
    events_max_age: timedelta = timedelta(hours=24)
    duplicate_window: timedelta = DUPLICATE_WINDOW


def stream_configs(limits: StreamLimits) -> tuple[StreamConfig, StreamConfig]:
    """The configurations of `EVENTS` and `SANDBOX`."""
    window = limits.duplicate_window.total_seconds()
    events = StreamConfig(
        name=subjects.EVENTS_STREAM,
        subjects=[subjects.EVENTS_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=limits.events_max_age.total_seconds(),
        duplicate_window=min(window, limits.events_max_age.total_seconds()),
        discard=DiscardPolicy.OLD,
        num_replicas=limits.replicas,
        allow_direct=True,
    )
    sandbox = StreamConfig(
        name=subjects.SANDBOX_STREAM,
        subjects=[subjects.SANDBOX_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.MEMORY,
        max_age=_SANDBOX_MAX_AGE.total_seconds(),
        max_msgs=_SANDBOX_MAX_MESSAGES,
        duplicate_window=window,
        discard=DiscardPolicy.OLD,
        num_replicas=limits.replicas,
        allow_direct=True,
    )
    return events, sandbox


class Streams:
    """Ensures that both streams exist. `ready` is True while they are known to."""

    def __init__(self, js: JetStreamContext, limits: StreamLimits) -> None:
        self._js = js
        self._limits = limits
        self._lock = asyncio.Lock()
        self.ready = False

    async def ensure(self) -> None:
        """Make each stream that is missing, and bring an existing one to the settings.

        What the settings say nothing of, such as a size limit or a placement, stays as an operator has set
        it. Raises `DependencyUnavailable` when NATS does not answer or can't make a stream what it has to be.
        """
        async with self._lock:
            self.ready = False
            for config in stream_configs(self._limits):
                await self._ensure_one(config)
            self.ready = True

    async def _ensure_one(self, config: StreamConfig) -> None:
        name = str(config.name)
        with translating():
            try:
                present = (await self._js.stream_info(name)).config
            except nats.js.errors.NotFoundError:
                await self._js.add_stream(config)
                _log.info("stream_created", stream=name)
                return
            decided = {field: getattr(config, field) for field in _DECIDED}
            wanted = {field: value for field, value in decided.items() if value is not None}
            different = [field for field, value in wanted.items() if getattr(present, field) != value]
            if not different:
                return
            try:
                await self._js.update_stream(present.evolve(**wanted))
            except nats.js.errors.APIError as error:
                reason = f"stream {name} has other {', '.join(different)}, and can't be changed"
                _log.error("stream_not_updated", stream=name, different=different, refusal=error.description)
                raise DependencyUnavailable("NATS", reason) from error
            _log.info("stream_updated", stream=name, changed=different)
