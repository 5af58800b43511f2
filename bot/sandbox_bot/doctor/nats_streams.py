"""Checks production's stream and sandboxes': their configuration, storing an event, and reading.

The check never creates a missing stream, nor a trial stream: that would prove little, because limits and
permissions depend on the name and on the streams that exist. Instead it checks whether the bot could create
the stream: the permissions, the account's limits, and the streams that have its subjects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from sandbox_core.bootstrap import Core
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.consumers import OURS
from sandbox_core.nats.errors import meaning
from sandbox_core.nats.message_ids import MessageIds
from sandbox_core.nats.sandbox_streams import SandboxStreams, sandbox_config
from sandbox_core.nats.streams import StreamFault, StreamLimits, events_config, find_overlap, judge, overlap
from sandbox_core.settings import Settings
from sandbox_core.words import counted

from .findings import Look
from .nats_permissions import Need, event_of_sandbox, events

_ANSWER_WITHIN = 2.0
_SKEW_LIMIT = 10.0
_TRIAL_KEPT_UNUSED = 5.0
_WRONG_LAST_SEQUENCE = 10071  # JetStream's JSStreamWrongLastSequenceErrF
_ANOTHER_STREAM = 10060  # JetStream's JSStreamNotMatchErr


@dataclass(frozen=True, slots=True)
class Server:
    """One NATS server in use. With `only`, a side as `publications` has it, the other is on another one."""

    nats: NatsConnection
    js: JetStreamContext
    settings: Settings
    only: str | None = None

    @classmethod
    def all_of(cls, core: Core) -> list[Server]:
        """Production's, and the sandboxes' if that is another, unless each sandbox has an account there."""
        settings, names = core.settings, core.settings.stream_names
        if settings.sandbox_nats_url is None:
            return [cls(core.nats, core.js, settings)]
        if settings.tenant_nats is not None:
            return [cls(core.nats, core.js, settings, names.events)]
        return [
            cls(core.nats, core.js, settings, names.events),
            cls(core.sandbox_nats, core.sandbox_js, settings, names.sandbox),
        ]

    @property
    def has_events(self) -> bool:
        """True for the server of production's stream."""
        return self.only in {None, self.settings.stream_names.events}

    @property
    def has_sandboxes(self) -> bool:
        """True for the server of the streams of sandboxes without an account."""
        return self.only in {None, self.settings.stream_names.sandbox}


async def look_at_streams(server: Server, look: Look, clock: Callable[[], datetime]) -> list[StreamConfig]:
    """Check the streams. Return those that are missing and could be created.

    Raises:
        DependencyUnavailable, nats.errors.TimeoutError, nats.errors.NoRespondersError,
        ServiceUnavailableError: JetStream does not answer, at least not for one of the streams.
    """
    limits, missing = StreamLimits.of(server.settings), []
    if server.has_events:
        wanted = events_config(limits)
        try:
            info = await server.js.stream_info(str(wanted.name))
        except NotFoundError:
            if await _could_be_made(server, look, wanted):
                missing.append(wanted)
        else:
            await _clocks(server, look, str(wanted.name), clock)
            if await _usable(server, look, info, wanted, events(limits.names)[limits.names.events]):
                look.ok(f"the stream {wanted.name} holds {info.state.messages} messages; its use was tried")
    if server.has_sandboxes:
        present = await SandboxStreams(server.js, limits).present()
        missing += await _sandboxes(server, look, limits, present)
        if present and not server.has_events:
            await _clocks(server, look, limits.names.sandbox_stream(next(iter(present))), clock)
    return missing


async def _sandboxes(
    server: Server, look: Look, limits: StreamLimits, present: Mapping[str, StreamInfo]
) -> list[StreamConfig]:
    """Check the streams of sandboxes; without any, return one that could be created."""
    if not present:
        wanted = sandbox_config(limits, uuid4())
        fault = await find_overlap(server.js, wanted)
        if fault is None:
            return [wanted]
        _tell(look, f"{limits.names.sandbox}_…", fault)
        return []
    usable = [
        await _usable(server, look, info, sandbox_config(limits, each), event_of_sandbox(limits.names, each))
        for each, info in present.items()
    ]
    if all(usable):
        said = counted(len(usable), "stream of a sandbox holds", "streams of sandboxes hold")
        total = sum(info.state.messages for info in present.values())
        look.ok(f"{said} {total} messages; their use was tried")
    return []


async def _usable(server: Server, look: Look, info: StreamInfo, wanted: StreamConfig, event: Need) -> bool:
    name = str(wanted.name)
    return (
        _as_needed(look, info, wanted)
        and await _takes_events(server, look, name, event)
        and await _serves(server, look, wanted)
        and await _stores(server, look, wanted)
    )


async def _could_be_made(server: Server, look: Look, wanted: StreamConfig) -> bool:
    subject = (wanted.subjects or [""])[0]
    try:
        await server.js.find_stream_name_by_subject(subject)
    except NotFoundError:
        look.note(
            f"the stream {wanted.name} does not exist yet",
            "The bot makes it as it starts:",
            ["sandboxctl run"],
        )
        return True
    except nats.errors.TimeoutError:
        # Only this request is not permitted, or it gets no answer. Creating the stream will show the rest.
        return True
    _tell(look, str(wanted.name), await overlap(server.js, wanted))
    return False


def _as_needed(look: Look, info: StreamInfo, wanted: StreamConfig) -> bool:
    """Check a stream's configuration. Return False when the bot can't use the stream."""
    usable = True
    for fault in judge(info.config, wanted):
        _tell(look, str(wanted.name), fault)
        usable = usable and not fault.stops
    behind = [peer.name for peer in (info.cluster.replicas if info.cluster else None) or () if peer.offline]
    if behind:
        look.note(f"replicas of the stream {wanted.name} are offline: {', '.join(map(str, behind))}")
    return usable


def _tell(look: Look, stream: str, fault: StreamFault) -> None:
    sentence, command = _command_of(fault.mend)
    say = look.failed if fault.stops else look.note
    say(f"the stream {stream} {fault.problem}", sentence, [command] if command else list(fault.settings))


def _command_of(mend: str) -> tuple[str, str]:
    """Split a text into the sentence and the command at its end."""
    for program in ("nats stream ", "sandboxctl "):
        before, found, rest = mend.partition(program)
        if found and not rest.endswith("."):
            return before.rstrip() or "With NATS' command line:", found + rest
    return mend, ""


async def _takes_events(server: Server, look: Look, name: str, event: Need) -> bool:
    """Publish an event that the stream must refuse for its sequence: then publish and answer work."""
    answer = await server.nats.client.request(
        event.subject, b"", timeout=_ANSWER_WITHIN, headers=event.headers
    )
    said = json.loads(answer.data)
    error = said.get("error") or {}
    if error.get("err_code") == _WRONG_LAST_SEQUENCE:
        return True
    if error.get("err_code") == _ANOTHER_STREAM:
        look.failed(
            f"another stream, {said.get('stream')}, answers to events for {name}",
            "Set NATS_EVENTS_PREFIX to other subjects, or use a NATS account of the bot's own.",
        )
        return False
    look.failed(
        f"the stream {name} refuses events: {error.get('description', 'it stored the trial event')}",
        "Fix the reason; then run doctor again.",
    )
    return False


async def _serves(server: Server, look: Look, wanted: StreamConfig) -> bool:
    """Read the stream as the bot does."""
    name, subject = str(wanted.name), (wanted.subjects or [""])[0]
    try:
        await MessageIds(server.nats.client, server.js).read(
            name, subject, datetime.now(UTC), lambda _id: None
        )
    except ServiceUnavailableError:
        raise
    except APIError as error:
        said = error.description
        look.failed(f"the stream {name} can't be read: {said}", "Fix the reason; then run doctor again.")
        return False
    return True


async def _stores(server: Server, look: Look, wanted: StreamConfig) -> bool:
    """Make and remove a consumer that is kept on the stream's disk; workers would see a stored event."""
    if wanted.storage != StorageType.FILE:
        return True
    name = str(wanted.name)
    trial = ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.NEW,
        num_replicas=1,
        inactive_threshold=_TRIAL_KEPT_UNUSED,
        metadata=dict(OURS),
    )
    try:
        made = await server.js.add_consumer(name, trial)
        await server.js.delete_consumer(name, made.name)
    except ServiceUnavailableError:
        raise
    except APIError as error:
        look.failed(
            f"the stream {name} can't store: {meaning(error.err_code, error.description)}",
            "Make room on the disk of nats-server, then restart it: a stream that met a full disk stores "
            "nothing before.",
        )
        return False
    return True


async def _clocks(server: Server, look: Look, name: str, clock: Callable[[], datetime]) -> None:
    before = clock()
    answer = await server.nats.client.request(f"$JS.API.STREAM.INFO.{name}", b"", timeout=_ANSWER_WITHIN)
    told = json.loads(answer.data).get("ts")
    if told is None:
        return
    skew = (datetime.fromisoformat(told) - before - (clock() - before) / 2).total_seconds()
    look.judge(
        abs(skew) <= _SKEW_LIMIT,
        f"its clock and this machine's are {abs(skew):.1f} s apart",
        "Use NTP on both machines: the bot finds stored events by their time.",
    )
