"""A frame on its way through the router, and the message it becomes."""

from __future__ import annotations

from collections.abc import Callable

from sandbox_core.events import Frame
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.wire import Label
from sandbox_core.routing import Destination, Side

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


def message_of(event: Event, destination: Destination) -> Publication:
    """The message that carries the event to its destination: the frame's bytes, and what they are in headers.

    The message id is the same in every attempt and after every resume, in whichever process.
    """
    frame = event.frame
    ledger = event.ledger
    key = (destination.prefix, frame.type, ledger.shard, frame.guild_id)
    label = _labels.get(key)
    if label is None:
        label = _label_of(frame, ledger.shard, destination)
        # A dead letter's event has any name.
        if destination.side is not Side.DEAD_LETTER:
            if len(_labels) >= _MOST_LABELS:
                del _labels[next(iter(_labels))]
            _labels[key] = label
    return Publication(label, f"{ledger.id_prefix}{frame.seq}", frame.raw, event)


_labels: dict[tuple[str, str, str, str | None], Label] = {}
"""By all that is in them: a busy guild's messages of one type say the same but for their ids."""
_MOST_LABELS = 10_000
"""About 10 MB of them; the oldest makes room."""


def _label_of(frame: Frame, shard: str, destination: Destination) -> Label:
    headers = {
        "Nats-Expected-Stream": destination.stream,
        "Discord-Event": frame.type,
        "Discord-Shard": shard,
    }
    if frame.guild_id is not None:
        headers["Discord-Guild-Id"] = frame.guild_id
    if destination.sandbox_id is not None:
        headers["Sandbox-Id"] = destination.sandbox_id
    token = frame.type
    if destination.side is Side.DEAD_LETTER:
        # The event name is no subject token, so it can't stand in a header either.
        token = headers["Discord-Event"] = _BAD_TYPE
    return Label(destination.prefix + token, headers)
