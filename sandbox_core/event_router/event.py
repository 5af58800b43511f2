"""A frame on its way through the router, and the message it becomes."""

from __future__ import annotations

from collections.abc import Callable

from sandbox_core.events import Frame
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.wire import Label
from sandbox_core.routing import Destination, Side
from sandbox_core.subjects import StreamNames, sandbox_subject

from .ledger import ShardLedger

GUILDLESS = ""
"""The lane of the events that belong to no guild."""
_BAD_TYPE = "BAD_TYPE"


class Event:
    """A frame the router has taken responsibility for; `behind` is the next one of its lane.

    `tell` is told the event's side as soon as it is decided, which is then on arrival where possible.
    """

    __slots__ = ("behind", "destination", "frame", "lane", "ledger", "size", "tell")

    def __init__(
        self,
        frame: Frame,
        ledger: ShardLedger,
        tell: Callable[[Destination | None], None] | None = None,
    ) -> None:
        self.frame = frame
        self.ledger = ledger
        self.tell = tell
        self.lane = frame.guild_id or frame.attributed_to or GUILDLESS
        self.size = len(frame.raw)
        self.behind: Event | None = None
        self.destination: Destination | None = frame.decided

    def decided(self, destination: Destination | None) -> None:
        """The event goes there, whatever changes before it is published."""
        self.destination = self.frame.decided = destination
        if self.tell is not None:
            self.tell(destination)


def length(event: Event | None) -> int:
    """How many events the lane has from this one on."""
    count = 0
    while event is not None:
        count += 1
        event = event.behind
    return count


class Messages:
    """Makes the messages that carry events to their destinations, by an installation's names."""

    def __init__(self, names: StreamNames) -> None:
        self._names = names
        self._labels: dict[tuple[str, str, str, str | None], Label] = {}
        """By all that is in them: a busy guild's messages of one type say the same but for their ids."""

    def of(self, event: Event, destination: Destination) -> Publication:
        """The event's message: the frame's bytes, and what they are in headers.

        The message id is the same in every attempt and after every resume, in whichever process.
        """
        frame = event.frame
        ledger = event.ledger
        key = (destination.key, frame.type, ledger.shard, frame.guild_id)
        label = self._labels.get(key)
        if label is None:
            label = self._label_of(frame, ledger.shard, destination)
            # A dead letter's event has any name.
            if destination.side is not Side.DEAD_LETTER:
                if len(self._labels) >= _MOST_LABELS:
                    del self._labels[next(iter(self._labels))]
                self._labels[key] = label
        return Publication(label, f"{ledger.id_prefix}{frame.seq}", frame.raw, event)

    def _label_of(self, frame: Frame, shard: str, destination: Destination) -> Label:
        # The event name of a dead letter is no subject token, so it can't stand in a header either.
        event_type = _BAD_TYPE if destination.side is Side.DEAD_LETTER else frame.type
        stream, subject = stream_and_subject(self._names, destination, event_type)
        headers = {"Nats-Expected-Stream": stream, "Discord-Event": event_type, "Discord-Shard": shard}
        if frame.guild_id is not None:
            headers["Discord-Guild-Id"] = frame.guild_id
        if destination.sandbox_id is not None:
            headers["Sandbox-Id"] = destination.sandbox_id
        return Label(subject, headers)


def stream_and_subject(names: StreamNames, destination: Destination, event_type: str) -> tuple[str, str]:
    """What the destination is in NATS, for events of one type."""
    if destination.sandbox_id is not None:
        return names.sandbox, sandbox_subject(destination.sandbox_id, event_type)
    match destination.side:
        case Side.PRODUCTION:
            return names.events, names.production_subject(event_type)
        case Side.UNATTRIBUTED:
            return names.events, names.unattributed_subject(event_type)
        case Side.DEAD_LETTER:
            return names.events, names.dead_letter_subject(event_type)
        case _:
            raise ValueError(f"nothing is published to {destination}")


_MOST_LABELS = 10_000
"""About 10 MB of them; the oldest makes room."""
