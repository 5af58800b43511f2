"""Compares what the simulator sent with what the streams hold, message by message."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from discord_sim import Frame

from .kills import Kills
from .latency import Beside
from .reader import Stored
from .sides import DEAD_LETTER, PRODUCTION, UNATTRIBUTED, Sides, side_of
from .tap import Ack

_KEPT_EXAMPLES = 5
_CONNECTION = {"READY", "RESUMED"}


@dataclass
class Verdict:
    """The figures of one scenario; `faults` must all be zero."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    doubled: int = 0
    wrong_side: int = 0
    altered: int = 0
    disordered: int = 0
    strange: int = 0
    """Messages in the streams that nobody sent, or that the bot should have kept to itself."""
    gaps: int = 0
    """Events that Discord itself did not deliver: the session had ended."""
    gone: int = 0
    """Of the delivered ones: acknowledged, and removed with their sandbox or with the server's memory."""
    repeated: int = 0
    """Stored again because the stream's memory, and with it what it knew of repeats, was lost."""
    dropped: int = 0
    """Missing events of sandboxes, where the bot may drop some: as many as it has counted."""
    unattributed: int = 0
    identifies: int = 0
    identifies_allowed: int = 0
    resumes: int = 0
    commands: str = ""
    seconds: float = 0.0
    kills: Kills = field(default_factory=Kills)
    backs: list[float] = field(default_factory=list)
    """Seconds from the moment that a server answered again until work went on."""
    production: list[tuple[float, float]] = field(default_factory=list)
    """When each event of production was sent, and the milliseconds from then until it was stored."""
    changing: list[tuple[float, float]] = field(default_factory=list)
    """The same of servers that change sides: as these go on, their events wait for the ones before."""
    beside: Beside | None = None
    """Production's latency, where a run without the fault ran beside."""
    problems: list[str] = field(default_factory=list)
    """What else went wrong, in sentences; must be empty."""
    examples: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, int]:
        """The figures that have to be zero and are not."""
        figures = {
            "lost": self.lost,
            "doubled": self.doubled,
            "wrong side": self.wrong_side,
            "altered": self.altered,
            "out of order": self.disordered,
            "strange": self.strange,
            "identifies too many": max(0, self.identifies - self.identifies_allowed),
        }
        return {name: count for name, count in figures.items() if count}

    @property
    def passed(self) -> bool:
        """True when nothing is wrong and something was proved."""
        return not self.faults and not self.problems and self.delivered > 0

    def example(self, kind: str, text: str) -> None:
        """Keep the first few of each kind."""
        if sum(1 for example in self.examples if example.startswith(kind)) < _KEPT_EXAMPLES:
            self.examples.append(f"{kind}: {text}")


class _Event:
    """One event of Discord's, and its frames: one per session that got it."""

    __slots__ = ("copies", "frames", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.frames: list[Frame] = []
        self.copies: list[Stored] = []


def identity(frame: Frame) -> str:
    """The message id its event is published with."""
    return f"{frame.session_id}:{frame.shard}:{frame.seq}"


def is_published(frame: Frame) -> bool:
    """False for the bot's own interactions, which it keeps to itself."""
    if frame.type in _CONNECTION:
        return False
    if frame.type != "INTERACTION_CREATE":
        return True
    data = json.loads(frame.raw)["d"].get("data") or {}
    return data.get("name") != "sandbox" and not str(data.get("custom_id", "")).startswith("sandbox:")


class Judge:
    """Judges once.

    `guild_of` tells whose the guild-less events of the run are, `channel_of` where the direct messages are,
    both by payload identity; `kills` are the moments (seconds since the epoch) at which bot processes were
    killed, and `ended` says when a stream was found made anew, by its name and which life of it was over.
    """

    def __init__(
        self,
        sides: Sides,
        guild_of: Mapping[int, int],
        channel_of: Mapping[int, str],
        acks: Mapping[str, Sequence[Ack]],
        kills: Sequence[float],
        ended: Mapping[tuple[str, int], float],
    ) -> None:
        self._sides = sides
        self._guild_of = guild_of
        self._channel_of = channel_of
        self._acks = acks
        self._kills = kills
        self._ended = ended
        self.snapshots = True
        """False where sessions stand by: what one brings at its begin tells of no change, and may be left."""

        self.drops = False
        """True where a missing event of a sandbox counts as dropped."""

    def judge(self, sent: Sequence[Frame], stored: Iterable[Stored], verdict: Verdict) -> None:
        """Fill in the figures."""
        events: dict[tuple[int, bytes], _Event] = {}
        by_identity: dict[str, tuple[_Event, Frame]] = {}
        left: set[str] = set()
        for frame in sent:
            if not is_published(frame):
                continue
            if frame.type == "GUILD_CREATE" and not self.snapshots:
                left.add(identity(frame))
                continue
            key = (id(frame.payload), frame.middle)
            event = events.setdefault(key, _Event(len(events)))
            event.frames.append(frame)
            by_identity[identity(frame)] = (event, frame)
        verdict.sent = len(events)
        messages = list(stored)
        # By time, so that a repeat is the later copy, in whichever stream it stands.
        for message in sorted(messages, key=lambda m: m.at):
            if message.identity in left:
                continue
            known = by_identity.get(message.identity)
            if known is None:
                verdict.strange += 1
                verdict.example("strange", f"{message.subject} {message.identity}")
                continue
            event, frame = known
            if message.stream == "EVENTS" and not event.copies:
                changes = self._sides.allowed(self._guild(frame), -math.inf, math.inf) != {PRODUCTION}
                taken = (frame.sent_at, (message.at - frame.sent_at) * 1000)
                (verdict.changing if changes else verdict.production).append(taken)
            self._copy(event, frame, message, verdict)
        self._order(messages, by_identity, verdict)
        for event in events.values():
            self._missing(event, verdict)

    def _order(
        self, messages: Sequence[Stored], by_identity: Mapping[str, tuple[_Event, Frame]], verdict: Verdict
    ) -> None:
        """The first copies have to stand in the order in which they were sent."""
        latest: dict[tuple[object, ...], tuple[int, Stored]] = {}
        for message in messages:
            event, frame = by_identity.get(message.identity, (None, None))
            if event is None or frame is None or event.copies[0] is not message:
                continue
            place = self._place(frame, message)
            before = latest.get(place)
            if before is not None and event.number < before[0]:
                verdict.disordered += 1
                verdict.example("out of order", f"{_when(frame, message)} after {before[1].identity}")
            else:
                latest[place] = (event.number, message)

    def _place(self, frame: Frame, message: Stored) -> tuple[object, ...]:
        """Within what order is promised: a guild's events, or a direct message channel's, in one stream."""
        where = self._guild(frame) or self._channel_of.get(id(frame.payload))
        # An event without a guild's id may wait until somebody has said whose it is, and for it nothing else
        # waits; ephemeral messages also come on shard 0, and nothing orders two connections.
        unattributed = side_of(message.subject) == UNATTRIBUTED
        return (message.stream, message.life, unattributed, where, frame.guild_id is None, frame.shard)

    def _guild(self, frame: Frame) -> int | None:
        return self._guild_of.get(id(frame.payload), frame.guild_id)

    def _copy(self, event: _Event, frame: Frame, message: Stored, verdict: Verdict) -> None:
        if any(self._forgotten(one, message) for one in event.copies):
            verdict.repeated += 1
        elif event.copies:
            verdict.doubled += 1
            where = ", ".join(f"{c.subject} at {c.at:.3f}" for c in (*event.copies, message))
            verdict.example("doubled", f"{frame.type} {message.identity}: {where}")
        event.copies.append(message)
        self._check_side(frame, message.subject, message.at, verdict)
        wrong = _alterations(frame, message)
        if wrong:
            verdict.altered += 1
            verdict.example("altered", f"{message.subject} {message.identity}: {', '.join(wrong)}")

    def _forgotten(self, one: Stored, other: Stored) -> bool:
        """The copy `one` was gone with its stream's memory when `other` was stored."""
        ended = self._ended.get((one.stream, one.life))
        return ended is not None and ended <= other.at

    def _check_side(self, frame: Frame, subject: str, at: float, verdict: Verdict) -> None:
        side = side_of(subject)
        if side == UNATTRIBUTED and id(frame.payload) in self._guild_of:
            verdict.unattributed += 1
            return
        guild_id = self._guild(frame)
        allowed = self._sides.allowed(guild_id, frame.sent_at, at)
        if side not in allowed or side == DEAD_LETTER:
            verdict.wrong_side += 1
            verdict.example(
                "wrong side",
                f"{frame.type} of {guild_id} sent {frame.sent_at:.3f}, stored {at:.3f} in {side}, "
                f"right would be {', '.join(sorted(allowed))}",
            )

    def _missing(self, event: _Event, verdict: Verdict) -> None:
        if event.copies:
            verdict.delivered += 1
            return
        for frame in event.frames:
            acks = [ack for ack in self._acks.get(identity(frame), ()) if ack.stream != "EVENTS"]
            if acks:
                verdict.delivered += 1
                verdict.gone += 1
                self._check_side(frame, acks[0].subject, acks[0].at, verdict)
                return
        if all(self._is_gap(frame) for frame in event.frames):
            verdict.gaps += 1
            return
        frame = event.frames[0]
        sides = self._sides.allowed(self._guild(frame), frame.sent_at, frame.sent_at)
        if self.drops and sides != {PRODUCTION}:
            verdict.dropped += 1
            return
        verdict.lost += 1
        verdict.example(
            "lost", f"{frame.type} {identity(frame)} of {self._guild(frame)}, sent {frame.sent_at:.3f}"
        )

    def _is_gap(self, frame: Frame) -> bool:
        """Discord ended the session while nobody was attached, or before a killed process was replaced."""
        session = frame.session
        if session.ended_at is None:
            return False
        if not session.ended_connected:
            return True
        return any(frame.sent_at <= kill <= session.ended_at + 30 for kill in self._kills)


def _when(frame: Frame, message: Stored) -> str:
    times = f"sent {frame.sent_at:.3f}, stored {message.at:.3f}"
    return f"{message.subject} {message.identity} of {frame.guild_id}, {times}"


def _alterations(frame: Frame, message: Stored) -> list[str]:
    headers = message.headers
    wrong = []
    if message.payload != frame.raw:
        wrong.append("payload")
    if headers.get("Discord-Event") != frame.type or not message.subject.endswith(f".{frame.type}"):
        wrong.append("event name")
    if headers.get("Discord-Shard") != str(frame.shard):
        wrong.append("shard")
    side = side_of(message.subject)
    if headers.get("Sandbox-Id") != (None if message.stream == "EVENTS" else side):
        wrong.append("sandbox id")
    if frame.guild_id is not None and headers.get("Discord-Guild-Id") != str(frame.guild_id):
        wrong.append("guild id")
    return wrong
