"""What is wrong with a stream that is there: one judgement, for the bot that needs it and for who looks.

A stream says in its metadata who made it. Without this project's mark it is somebody else's, whatever it is
called: it is never altered, and nothing else is said about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from sandbox_core.subjects import sandbox_of

MADE_BY = "made-by"
"""The key of the mark in a stream's metadata."""
MARK = "discord-server-sandboxes"
OWNER = "sandbox"
"""The key of the sandbox's id, in the metadata of its streams."""

DECIDED = (
    "subjects",
    "retention",
    "storage",
    "max_age",
    "max_msgs",
    "duplicate_window",
    "num_replicas",
    "allow_msg_ttl",
)
"""What this project decides about a stream; the order of the names is that of a message about them."""


_REFUSES = "bytes, and refuses events when it is full: they then wait"
_SANDBOX_REFUSES = f"{_REFUSES}, and sandboxes lose their oldest"
_MOST, _LONGEST = 4, 60
"""How many subjects a sentence names, and how much of each."""


class FaultKind(StrEnum):
    """What can be wrong with a stream."""

    FOREIGN = "foreign"
    """It does not bear the mark."""
    OVERLAP = "overlap"
    """Another stream takes subjects that this one needs, so this one can't be made."""
    MIRROR = "mirror"
    SOURCED = "sourced"
    SEALED = "sealed"
    NO_ACK = "no_ack"
    TRANSFORMED = "transformed"
    FIXED = "fixed"
    """It is of another kind than needed, and can't be changed."""
    DIFFERS = "differs"
    """It is not as the settings say; the bot brings it there as it starts."""
    LIMIT = "limit"
    """An operator has limited it below what this project would."""


@dataclass(frozen=True, slots=True)
class StreamFault:
    """One thing that is wrong; `problem` goes on from the stream's name, `mend` is one or more sentences."""

    kind: FaultKind
    problem: str
    mend: str
    stops: bool = True
    """True when nothing can be published to the stream, or removed from it, as it has to be."""
    field: str = ""
    """What differs, by the name that JetStream has for it."""
    settings: tuple[str, ...] = ()
    """Lines for the environment that mend it."""


def is_ours(present: StreamConfig) -> bool:
    """True for a stream that bears this project's mark."""
    return (present.metadata or {}).get(MADE_BY) == MARK


def judge(present: StreamConfig, wanted: StreamConfig) -> list[StreamFault]:
    """All that is wrong with a stream that is there, the worst first; nothing when it is as it has to be."""
    if _lacking(present, wanted):
        return [_foreign(present, wanted)]
    return [*_unusable(present, wanted), *_differing(present, wanted), *_limits(present)]


def _lacking(present: StreamConfig, wanted: StreamConfig) -> list[str]:
    """What the metadata of a stream of ours has, as far as this one's has not."""
    has = present.metadata or {}
    return [f"{key}={value}" for key, value in (wanted.metadata or {}).items() if has.get(key) != value]


async def find_overlap(js: JetStreamContext, wanted: StreamConfig) -> StreamFault | None:
    """What hinders making a stream that is not there: another one that takes its subjects, or None.

    Raises nats-py's errors.
    """
    for subject in wanted.subjects or ():
        try:
            name = await js.find_stream_name_by_subject(subject)
            if name != wanted.name:
                return _overlap(wanted, described((await js.stream_info(name)).config))
        except NotFoundError:
            # There is none, or it went just now.
            continue
    return None


async def overlap(js: JetStreamContext, wanted: StreamConfig) -> StreamFault:
    """Say which stream takes the wanted one's subjects, after JetStream refused it for that."""
    try:
        return await find_overlap(js, wanted) or _overlap(wanted)
    except (nats.errors.Error, OSError):
        # The refusal itself is known all the same.
        return _overlap(wanted)


def _overlap(wanted: StreamConfig, other: str = "") -> StreamFault:
    another = f"the stream {other}" if other else "another stream"
    return StreamFault(
        FaultKind.OVERLAP,
        f"can't have its subjects: {another} takes subjects of {_listed(wanted.subjects)}",
        _elsewhere(wanted, name_too=False),
        settings=_settings_elsewhere(wanted, name_too=False),
    )


def described(config: StreamConfig) -> str:
    """The stream's name and subjects, for a sentence."""
    return f"{config.name} (subjects {_listed(config.subjects)})"


def _listed(subjects: Sequence[str] | None) -> str:
    first = [subject[:_LONGEST] for subject in (subjects or ())[:_MOST]]
    more = len(subjects or ()) - len(first)
    return (", ".join(first) + (f" and {more} more" if more > 0 else "")) or "those of other streams"


def _foreign(present: StreamConfig, wanted: StreamConfig) -> StreamFault:
    mend, lacking = _elsewhere(wanted, name_too=True), _lacking(present, wanted)
    if present.subjects == wanted.subjects:
        mend += f" If it was made for this bot, mark it as such: nats stream edit {present.name} " + " ".join(
            f"--metadata {each}" for each in lacking
        )
    return StreamFault(
        FaultKind.FOREIGN,
        f"is not this bot's (subjects {_listed(present.subjects)}; no {', '.join(lacking)} in its metadata) "
        "and is left alone",
        mend,
        settings=_settings_elsewhere(wanted, name_too=True),
    )


def _is_sandboxs(config: StreamConfig) -> bool:
    return sandbox_of((config.subjects or [""])[0]) is not None


def _elsewhere(wanted: StreamConfig, *, name_too: bool) -> str:
    if _is_sandboxs(wanted):
        name = "Set NATS_SANDBOX_STREAM to another name. " if name_too else ""
        return (
            f"{name}Where somebody else's subjects begin with sandbox., use a NATS account of the bot's own."
        )
    if name_too:
        return (
            "Set NATS_EVENTS_STREAM to another name, and NATS_EVENTS_PREFIX if these subjects are taken too."
        )
    return "Set NATS_EVENTS_PREFIX to other subjects."


def _settings_elsewhere(wanted: StreamConfig, *, name_too: bool) -> tuple[str, ...]:
    if _is_sandboxs(wanted):
        return ("NATS_SANDBOX_STREAM=DISCORD_SANDBOX",) if name_too else ()
    name = ("NATS_EVENTS_STREAM=DISCORD_EVENTS",) if name_too else ()
    return (*name, "NATS_EVENTS_PREFIX=discord.events")


def _unusable(present: StreamConfig, wanted: StreamConfig) -> list[StreamFault]:
    name = present.name
    anew = f"Remove it once its messages are read; the bot makes it anew: nats stream rm {name}"
    found: list[StreamFault] = []
    if present.mirror is not None:
        found.append(
            StreamFault(FaultKind.MIRROR, f"is a mirror of {present.mirror.name}, and takes no events", anew)
        )
    if present.sources:
        sources = ", ".join(source.name for source in present.sources)
        found.append(
            StreamFault(
                FaultKind.SOURCED,
                f"has messages of other streams in it (sources {sources})",
                f"Take its sources away, with nats stream edit {name} and a configuration without them.",
            )
        )
    if present.sealed:
        found.append(StreamFault(FaultKind.SEALED, "is sealed, and takes no more events", anew))
    if present.no_ack:
        found.append(
            StreamFault(
                FaultKind.NO_ACK,
                "has no_ack set, so nobody is told that an event is stored",
                f"nats stream edit {name} --ack",
            )
        )
    if present.subject_transform is not None:
        found.append(
            StreamFault(
                FaultKind.TRANSFORMED,
                "has a subject_transform, so workers do not find its events",
                f"nats stream edit {name} --no-transform",
            )
        )
    for field in _fixed(present):
        is_so, should = getattr(present, field), getattr(wanted, field)
        if is_so != should:
            shown = "a work queue" if is_so == RetentionPolicy.WORK_QUEUE else is_so
            found.append(
                StreamFault(
                    FaultKind.FIXED,
                    f"has other {field} ({shown}, not {should}), and can't be changed",
                    anew,
                    field=field,
                )
            )
    return found


def _fixed(present: StreamConfig) -> tuple[str, ...]:
    """What JetStream never changes in such a stream."""
    return ("retention", "storage") if present.retention == RetentionPolicy.WORK_QUEUE else ("storage",)


def differing(present: StreamConfig, wanted: StreamConfig) -> Mapping[str, object]:
    """What is to be changed in a stream of ours, with the right values."""
    decided = {field: getattr(wanted, field) for field in DECIDED if field not in _fixed(present)}
    return {
        field: value
        for field, value in decided.items()
        if value is not None and getattr(present, field) != value
    }


def _differing(present: StreamConfig, wanted: StreamConfig) -> list[StreamFault]:
    return [
        StreamFault(
            FaultKind.DIFFERS,
            f"has other {field} than the settings: {getattr(present, field)}, not {value}",
            "The bot changes it as it starts: sandboxctl run",
            stops=False,
            field=field,
        )
        for field, value in differing(present, wanted).items()
    ]


def _limits(present: StreamConfig) -> list[StreamFault]:
    # Nothing here is wrong in itself: an operator may want it. So it is told and left.
    told = {
        "max_bytes": "bytes: the oldest events make room",
        "max_msgs_per_subject": "messages of each subject: older events of the same type go",
        "max_msg_size": "bytes a message: a larger event becomes a dead letter",
    }
    full_refuses = present.discard == DiscardPolicy.NEW
    found = []
    for field, effect in told.items():
        value = getattr(present, field)
        if value is None or value <= 0:
            continue
        refuses = full_refuses and field == "max_bytes"
        then = _SANDBOX_REFUSES if _is_sandboxs(present) else _REFUSES
        found.append(
            StreamFault(
                FaultKind.LIMIT,
                f"holds at most {value} {then if refuses else effect}",
                f"If that is not meant: nats stream edit {present.name}",
                stops=False,
                field=field,
            )
        )
    return found
