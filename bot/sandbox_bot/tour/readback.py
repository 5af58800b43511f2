"""Reads the streams message by message, and compares them with what Discord sent.

It never asks the bot: a fault of its routing could also be in its counters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from discord_sim import Frame
from sandbox_core.nats.sandbox_streams import SandboxStreams
from sandbox_core.nats.streams import StreamLimits
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames, sandbox_subject

_BATCH = 500
_TIMEOUT = 5.0
# A publisher's conditions for JetStream, which stay in the message.
_PROTOCOL_HEADERS = frozenset({"Nats-Expected-Stream"})


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One message in a stream; `position` is its sequence number there."""

    stream: str
    """Its name; of a sandbox's without an account what all of their names begin with."""
    position: int
    subject: str
    headers: Mapping[str, str]
    payload: bytes

    @property
    def message_id(self) -> str:
        """`{session_id}:{shard_id}:{seq}`."""
        return self.headers.get("Nats-Msg-Id", "")


@dataclass(frozen=True, slots=True)
class Expected:
    """A frame that Discord sent, and the sides where it may be: ids of sandboxes, None for production.

    Without sides it must not be published.
    """

    frame: Frame
    sides: frozenset[str | None]


@dataclass(slots=True)
class Comparison:
    """The differences, as message ids. Without a fault each event is unchanged, once, on its side."""

    expected: int = 0
    """Events that must be in a stream."""
    delivered: int = 0
    """Those of them that are in a stream."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong_side: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    wrong_headers: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Stored events that Discord did not send, or that must not be published."""

    @property
    def faults(self) -> dict[str, int]:
        """Return the kinds of faults with their numbers."""
        kinds = {
            "lost": self.lost,
            "doubled": self.doubled,
            "wrong side": self.wrong_side,
            "altered": self.altered,
            "wrong headers": self.wrong_headers,
            "out of order": self.out_of_order,
            "unexpected": self.unexpected,
        }
        return {kind: len(ids) for kind, ids in kinds.items() if ids}


async def stored_count(js: JetStreamContext, names: StreamNames = DEFAULT_NAMES) -> int:
    """Return the number of messages in production's stream and in the sandboxes'."""
    every = [names.events, *await sandboxes_streams(js, names)]
    return sum([(await js.stream_info(stream)).state.messages for stream in every])


async def read_streams(js: JetStreamContext, names: StreamNames = DEFAULT_NAMES) -> list[StoredEvent]:
    """Return every message of production's stream and of the sandboxes', each stream in its order."""
    return [
        *await read_stream(js, names.events, names.events_subjects),
        *await read_sandboxes(js, names),
    ]


async def read_sandboxes(js: JetStreamContext, names: StreamNames = DEFAULT_NAMES) -> list[StoredEvent]:
    """Return every message of all sandboxes without an account, each sandbox's in their order."""
    return [
        replace(event, stream=names.sandbox)
        for stream in await sandboxes_streams(js, names)
        for event in await read_stream(js, stream, "sandbox.>")
    ]


async def sandboxes_streams(js: JetStreamContext, names: StreamNames = DEFAULT_NAMES) -> list[str]:
    """Return the names of the streams of sandboxes without an account."""
    return await SandboxStreams(js, StreamLimits(names=names)).names()


async def read_stream(js: JetStreamContext, stream: str, subject: str) -> list[StoredEvent]:
    """Return every message of one stream in order, with its own consumer."""
    if (await js.stream_info(stream)).state.messages == 0:
        return []
    subscription = await js.pull_subscribe(
        subject,
        stream=stream,
        config=ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            num_replicas=1,
            # Who reads may stand still for longer than the five seconds after which the server removes it.
            inactive_threshold=60.0,
        ),
    )
    consumer = (await subscription.consumer_info()).name
    events: list[StoredEvent] = []
    try:
        more = True
        while more:
            for message in await subscription.fetch(_BATCH, timeout=_TIMEOUT):
                place = message.metadata
                events.append(
                    StoredEvent(
                        stream, place.sequence.stream, message.subject, message.headers or {}, message.data
                    )
                )
                more = place.num_pending > 0
    finally:
        await subscription.unsubscribe()
        await js.delete_consumer(stream, consumer)
    return events


def compare(
    expected: Iterable[Expected], stored: Sequence[StoredEvent], names: StreamNames = DEFAULT_NAMES
) -> Comparison:
    """Compare every message in the streams with what Discord sent.

    The order counts among the first copies of a guild's events in one session and stream.
    """
    wanted = {message_id(event.frame): event for event in expected if event.sides}
    result = Comparison(expected=len(wanted))
    copies = Counter(event.message_id for event in stored)
    result.delivered = sum(1 for wanted_id in wanted if copies[wanted_id])
    result.lost = [wanted_id for wanted_id in wanted if not copies[wanted_id]]
    result.doubled = [wanted_id for wanted_id in wanted if copies[wanted_id] > 1]
    last: dict[tuple[str, str, int, str | None], int] = {}
    seen: set[str] = set()
    for event in stored:
        want = wanted.get(event.message_id)
        if want is None:
            result.unexpected.append(event.message_id or f"{event.stream}:{event.position}")
            continue
        frame = want.frame
        if event.payload != frame.raw:
            result.altered.append(event.message_id)
        side = _side(event, frame.type, want.sides, names)
        if side is _ELSEWHERE:
            result.wrong_side.append(event.message_id)
        elif _our_headers(event) != headers_of(frame, side):
            result.wrong_headers.append(event.message_id)
        if event.message_id in seen:
            continue
        seen.add(event.message_id)
        lane = (event.stream, frame.session_id, frame.shard, event.headers.get("Discord-Guild-Id"))
        if frame.seq < last.get(lane, 0):
            result.out_of_order.append(event.message_id)
        last[lane] = max(frame.seq, last.get(lane, 0))
    return result


def message_id(frame: Frame) -> str:
    """The `Nats-Msg-Id` that a frame's message must have."""
    return f"{frame.session_id}:{frame.shard}:{frame.seq}"


def headers_of(frame: Frame, sandbox_id: str | None) -> dict[str, str]:
    """The headers that an event must have in its stream."""
    headers = {
        "Nats-Msg-Id": message_id(frame),
        "Discord-Event": frame.type,
        "Discord-Shard": str(frame.shard),
    }
    if frame.guild_id is not None:
        headers["Discord-Guild-Id"] = str(frame.guild_id)
    if sandbox_id is not None:
        headers["Sandbox-Id"] = sandbox_id
    return headers


_ELSEWHERE = "elsewhere"


def _side(
    event: StoredEvent, event_type: str, sides: Collection[str | None], names: StreamNames
) -> str | None:
    """Return the sandbox whose subject the event has; None for production."""
    for sandbox_id in sides:
        if sandbox_id is None:
            stream, subject = names.events, names.production_subject(event_type)
        else:
            stream, subject = names.sandbox, sandbox_subject(sandbox_id, event_type)
        if (event.stream, event.subject) == (stream, subject):
            return sandbox_id
    return _ELSEWHERE


def _our_headers(event: StoredEvent) -> dict[str, str]:
    return {name: value for name, value in event.headers.items() if name not in _PROTOCOL_HEADERS}
