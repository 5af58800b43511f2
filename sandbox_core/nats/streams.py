"""Makes streams, at the start and whenever they are missing, and changes them with the settings.

Production's stream is here, and what `sandbox_streams` needs too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import nats.js.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from sandbox_core.errors import DependencyUnavailable, LoginRefused, StreamUnusable
from sandbox_core.settings import Settings
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames

from .errors import DEPENDENCY, meaning, translating, unavailable
from .stream_faults import (
    MADE_BY,
    MARK,
    OWNER,
    FaultKind,
    StreamFault,
    differing,
    find_overlap,
    is_ours,
    judge,
    overlap,
)

__all__ = (
    "DUPLICATE_WINDOW",
    "MADE_BY",
    "MARK",
    "NO_SEQUENCE",
    "FaultKind",
    "StreamFault",
    "StreamLimits",
    "StreamMaker",
    "Streams",
    "events_config",
    "find_overlap",
    "is_ours",
    "judge",
    "overlap",
)

_log = structlog.get_logger("sandbox.nats")

_MIB = 1024 * 1024
NO_SEQUENCE = 2**53 - 1
"""A stream with a million events a second reaches this number after centuries."""
DUPLICATE_WINDOW = timedelta(minutes=5)
"""Repeats of an event are recognised by their message id for this long.

JetStream allows no window longer than a stream's age, and Discord keeps a session resumable for a few
minutes.
"""

SANDBOX_MAX_AGE = timedelta(minutes=5)
"""How long a sandbox's events are kept."""

# JetStream's JSStreamSubjectOverlapErr and JSStreamNameExistErr.
SUBJECTS_OVERLAP = 10065
_NAME_IN_USE = 10058


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the settings decide about the streams."""

    replicas: int = 1
    events_max_age: timedelta = timedelta(hours=24)
    duplicate_window: timedelta = DUPLICATE_WINDOW
    names: StreamNames = DEFAULT_NAMES
    sandbox_bytes: int = 32 * _MIB
    """How much one sandbox's stream may hold."""
    sandbox_messages: int = 500_000
    sandbox_consumers: int = 50

    @classmethod
    def of(cls, settings: Settings) -> StreamLimits:
        """Those of these settings."""
        return cls(
            settings.nats_replicas,
            timedelta(hours=settings.events_max_age_hours),
            names=settings.stream_names,
            sandbox_bytes=settings.sandbox_stream_mb * _MIB,
            sandbox_messages=settings.sandbox_stream_messages,
            sandbox_consumers=settings.sandbox_stream_consumers,
        )


def events_config(limits: StreamLimits) -> StreamConfig:
    """The configuration of production's stream."""
    names = limits.names
    window = limits.duplicate_window.total_seconds()
    return StreamConfig(
        name=names.events,
        subjects=[names.events_subjects],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=limits.events_max_age.total_seconds(),
        duplicate_window=min(window, limits.events_max_age.total_seconds()),
        discard=DiscardPolicy.OLD,
        num_replicas=limits.replicas,
        allow_direct=True,
        metadata={MADE_BY: MARK},
    )


class StreamMaker:
    """Makes a stream that is missing, and brings one of ours to its configuration.

    `server` names the server, as host and port, for the sentence about a stream that can't be used.
    """

    def __init__(self, js: JetStreamContext, server: Callable[[], str]) -> None:
        self._js = js
        self._server = server

    async def ensure(self, config: StreamConfig) -> None:
        """Make the stream, or change what differs.

        What the settings say nothing of, such as a size limit or a placement, stays as an operator has set
        it. Raises `StreamUnusable` for a stream that is not ours or can't be what it has to be, which is
        left as it is, and `DependencyUnavailable` when NATS does not answer.
        """
        name = str(config.name)
        with translating():
            try:
                present = (await self._js.stream_info(name)).config
            except nats.js.errors.NotFoundError:
                await self.add(config)
                return
            for fault in judge(present, config):
                if fault.stops:
                    raise self.unusable(name, fault)
            changes = differing(present, config)
            if not changes:
                return
            try:
                await self._js.update_stream(present.evolve(**changes))
            except nats.js.errors.APIError as error:
                fault = StreamFault(
                    FaultKind.FIXED,
                    f"has other {', '.join(changes)}, and can't be changed: {error.description}",
                    f"Change the setting back, or the stream: nats stream edit {name}",
                )
                raise await self._refused(config, error, fault) from error
            _log.info("stream_updated", stream=name, changed=list(changes))

    async def read(self, name: str) -> None:
        """Ask for a message that no stream has, as a duplicate will be asked for. See `duplicates`."""
        try:
            with translating(), suppress(nats.js.errors.NotFoundError):
                await self._js.get_msg(name, NO_SEQUENCE)
        except LoginRefused as error:
            if error.refused != "permission":
                raise
            subject = f"$JS.API.STREAM.MSG.GET.{name}"
            raise StreamUnusable(
                name,
                self._server(),
                f"can't be read: its user may not publish to {subject}",
                f'In nats-server\'s configuration, let the user publish to "{subject}", and reload it.',
            ) from error

    async def add(self, config: StreamConfig) -> None:
        """Make the stream. Raises as `ensure`, and nats-py's errors."""
        try:
            await self._js.add_stream(config)
        except nats.js.errors.APIError as error:
            fault = StreamFault(
                FaultKind.FIXED,
                f"can't be made: {meaning(error.err_code, error.description)}",
                "Change what hinders it at the server, or NATS_REPLICAS.",
            )
            raise await self._refused(config, error, fault) from error
        # An operation is one line, and makes the stream of its sandbox.
        log = _log.debug if OWNER in (config.metadata or {}) else _log.info
        log("stream_created", stream=config.name)

    async def _refused(
        self, config: StreamConfig, error: nats.js.errors.APIError, fault: StreamFault
    ) -> Exception:
        """What JetStream's refusal means; `fault` unless it is about subjects, or passes by itself."""
        if error.err_code == SUBJECTS_OVERLAP:
            fault = await overlap(self._js, config)
        elif error.err_code == _NAME_IN_USE:
            # It is looked at, and changed if need be, at the next attempt.
            return DependencyUnavailable(
                DEPENDENCY, f"another process has just made the stream {config.name}"
            )
        elif not isinstance(error, nats.js.errors.BadRequestError | nats.js.errors.ServerError):
            return unavailable(error) or error
        return self.unusable(str(config.name), fault)

    def unusable(self, name: str, fault: StreamFault) -> StreamUnusable:
        """The error for a stream with this fault."""
        return StreamUnusable(name, self._server(), fault.problem, fault.mend)


class Streams:
    """Ensures that production's stream exists. `ready` is True while it is known to.

    `server` is as for `StreamMaker`.
    """

    def __init__(
        self, js: JetStreamContext, limits: StreamLimits, *, server: Callable[[], str] = lambda: ""
    ) -> None:
        self.limits = limits
        self._config = events_config(limits)
        self.name = str(self._config.name)
        self._maker = StreamMaker(js, server)
        self._lock = asyncio.Lock()
        self.ready = False
        self.obstacle: StreamUnusable | None = None
        """Why the stream can't be used as it is, until `ensure` succeeds or fails for another reason."""

    async def ensure(self) -> None:
        """Do as `StreamMaker` documents."""
        async with self._lock:
            self.ready = False
            obstacle = None
            try:
                await self._maker.ensure(self._config)
                await self._maker.read(self.name)
            except StreamUnusable as error:
                obstacle = error
                raise
            finally:
                # What hindered before is told until more is known.
                self.obstacle = obstacle
            self.ready = True
