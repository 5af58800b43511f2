"""The two streams: made at start, made again whenever they are missing, and changed with the settings.

A memory stream is gone, not only empty, after its server restarts.
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
from sandbox_core.subjects import DEFAULT_NAMES, SANDBOX_SUBJECTS, StreamNames

from .errors import DEPENDENCY, meaning, translating, unavailable
from .stream_faults import (
    MADE_BY,
    MARK,
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
    "Streams",
    "find_overlap",
    "is_ours",
    "judge",
    "overlap",
    "stream_configs",
)

_log = structlog.get_logger("sandbox.nats")

_SANDBOX_MAX_AGE = timedelta(minutes=5)
_SANDBOX_MAX_MESSAGES = 500_000
NO_SEQUENCE = 2**53 - 1
"""A stream with a million events a second reaches this number after centuries."""
DUPLICATE_WINDOW = timedelta(minutes=5)
"""Repeats of an event are recognised by their message id for this long.

JetStream allows no window longer than a stream's age, and Discord keeps a session resumable for a few
minutes.
"""

# JetStream's JSStreamSubjectOverlapErr and JSStreamNameExistErr.
_SUBJECTS_OVERLAP = 10065
_NAME_IN_USE = 10058


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the settings decide about the streams."""

    replicas: int = 1
    events_max_age: timedelta = timedelta(hours=24)
    duplicate_window: timedelta = DUPLICATE_WINDOW
    names: StreamNames = DEFAULT_NAMES

    @classmethod
    def of(cls, settings: Settings) -> StreamLimits:
        """Those of these settings."""
        max_age = timedelta(hours=settings.events_max_age_hours)
        return cls(settings.nats_replicas, max_age, names=settings.stream_names)


def stream_configs(limits: StreamLimits) -> tuple[StreamConfig, StreamConfig]:
    """The configurations of production's stream and of the sandboxes'."""
    names = limits.names
    window = limits.duplicate_window.total_seconds()
    events = StreamConfig(
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
    sandbox = StreamConfig(
        name=names.sandbox,
        subjects=[SANDBOX_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.MEMORY,
        max_age=_SANDBOX_MAX_AGE.total_seconds(),
        max_msgs=_SANDBOX_MAX_MESSAGES,
        duplicate_window=window,
        discard=DiscardPolicy.OLD,
        num_replicas=limits.replicas,
        allow_direct=True,
        # For dead letters, which do not age.
        allow_msg_ttl=True,
        metadata={MADE_BY: MARK},
    )
    return events, sandbox


class Streams:
    """Ensures that the streams exist. `ready` is True while they are known to.

    `server` names the server, as host and port, for the sentence about a stream that can't be used. With
    `only`, a stream's name, the other one is left to another `Streams`.
    """

    def __init__(
        self,
        js: JetStreamContext,
        limits: StreamLimits,
        *,
        server: Callable[[], str] = lambda: "",
        only: str | None = None,
    ) -> None:
        self._js = js
        self.limits = limits
        self.name = only or ""
        """The only stream."""
        self._configs = [c for c in stream_configs(limits) if only in {None, c.name}]
        self._server = server
        self._lock = asyncio.Lock()
        self.ready = False
        self.obstacle: StreamUnusable | None = None
        """Why the streams can't be used as they are, until `ensure` succeeds or fails for another reason."""

    async def ensure(self) -> None:
        """Make each stream that is missing, and bring one of ours to the settings.

        What the settings say nothing of, such as a size limit or a placement, stays as an operator has set
        it. Raises `StreamUnusable` for a stream that is not ours or can't be what it has to be, which is
        left as it is, and `DependencyUnavailable` when NATS does not answer.
        """
        async with self._lock:
            self.ready = False
            self.obstacle = None
            try:
                for config in self._configs:
                    await self._ensure_one(config)
                    await self._read(str(config.name))
            except StreamUnusable as error:
                self.obstacle = error
                raise
            self.ready = True

    async def _ensure_one(self, config: StreamConfig) -> None:
        name = str(config.name)
        with translating():
            try:
                present = (await self._js.stream_info(name)).config
            except nats.js.errors.NotFoundError:
                await self._add(config)
                return
            for fault in judge(present, config):
                if fault.stops:
                    raise self._unusable(name, fault)
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

    async def _read(self, name: str) -> None:
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

    async def _add(self, config: StreamConfig) -> None:
        try:
            await self._js.add_stream(config)
        except nats.js.errors.APIError as error:
            fault = StreamFault(
                FaultKind.FIXED,
                f"can't be made: {meaning(error.err_code, error.description)}",
                "Change what hinders it at the server, or NATS_REPLICAS.",
            )
            raise await self._refused(config, error, fault) from error
        _log.info("stream_created", stream=config.name)

    async def _refused(
        self, config: StreamConfig, error: nats.js.errors.APIError, fault: StreamFault
    ) -> Exception:
        """What JetStream's refusal means; `fault` unless it is about subjects, or passes by itself."""
        if error.err_code == _SUBJECTS_OVERLAP:
            fault = await overlap(self._js, config)
        elif error.err_code == _NAME_IN_USE:
            # It is looked at, and changed if need be, at the next attempt.
            return DependencyUnavailable(
                DEPENDENCY, f"another process has just made the stream {config.name}"
            )
        elif not isinstance(error, nats.js.errors.BadRequestError | nats.js.errors.ServerError):
            return unavailable(error) or error
        return self._unusable(str(config.name), fault)

    def _unusable(self, name: str, fault: StreamFault) -> StreamUnusable:
        return StreamUnusable(name, self._server(), fault.problem, fault.mend)
