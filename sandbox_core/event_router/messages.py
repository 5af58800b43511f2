"""Makes the messages that carry events to their destinations."""

from __future__ import annotations

from sandbox_core.events import Frame
from sandbox_core.nats.wire import Label
from sandbox_core.routing import Destination, Side
from sandbox_core.subjects import StreamNames, sandbox_subject

_BAD_TYPE = "BAD_TYPE"
# Events of no guild have few types; the oldest makes room.
_MOST_LABELS = 1_000


class Messages:
    """Labels messages by an installation's names. A lane keeps its guild's labels; others are kept here."""

    def __init__(self, names: StreamNames) -> None:
        self._names = names
        self._labels: dict[tuple[str, str, str], Label] = {}

    def label(self, frame: Frame, shard: str, destination: Destination) -> Label:
        """What the frame's message says of itself, but for its id, which is the same in every attempt."""
        if frame.guild_id is not None or destination.side is not Side.PRODUCTION:
            return self._make(frame, shard, destination)
        key = (destination.key, frame.type, shard)
        label = self._labels.get(key)
        if label is None:
            if len(self._labels) >= _MOST_LABELS:
                del self._labels[next(iter(self._labels))]
            label = self._labels[key] = self._make(frame, shard, destination)
        return label

    def _make(self, frame: Frame, shard: str, destination: Destination) -> Label:
        # The event name of a dead letter is no subject token, so it can't stand in a header either.
        event_type = _BAD_TYPE if destination.side is Side.DEAD_LETTER else frame.type
        stream, subject = place_of(self._names, destination, event_type)
        headers = {"Nats-Expected-Stream": stream, "Discord-Event": event_type, "Discord-Shard": shard}
        if frame.guild_id is not None:
            headers["Discord-Guild-Id"] = frame.guild_id
        if destination.sandbox_id is not None:
            headers["Sandbox-Id"] = destination.sandbox_id
        return Label(subject, headers)


def place_of(names: StreamNames, destination: Destination, event_type: str) -> tuple[str, str]:
    """The stream and the subject of the destination's events of one type."""
    if destination.sandbox_id is not None:
        return names.sandbox_stream(destination.sandbox_id), sandbox_subject(
            destination.sandbox_id, event_type
        )
    match destination.side:
        case Side.PRODUCTION:
            return names.events, names.production_subject(event_type)
        case Side.UNATTRIBUTED:
            return names.events, names.unattributed_subject(event_type)
        case Side.DEAD_LETTER:
            return names.events, names.dead_letter_subject(event_type)
        case _:
            raise ValueError(f"nothing is published to {destination}")
