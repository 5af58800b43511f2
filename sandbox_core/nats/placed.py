"""Publishing where each sandbox has a place of its own, which its subject alone does not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nats.aio.client import Client
from nats.js import JetStreamContext

from sandbox_core.subjects import SLOT_STREAM

from .wire import Label, PublishWire

_MOST_LABELS = 20_000


class Places(Protocol):
    """Knows the places; see `SlotPlaces`."""

    changes: int
    """Counted up whenever an answer may be another one."""

    def subject(self, subject: str) -> str:
        """Where to publish; the subject itself when that is not known, where nobody takes it."""

    def jetstream(self, subject: str) -> JetStreamContext | None:
        """JetStream at the subject's place."""


class PlacedWire(PublishWire):
    """Puts messages on their way to their places. Everybody else sees the sandboxes' own subjects."""

    def __init__(self, client: Client, may_send: Callable[[], bool], places: Places) -> None:
        super().__init__(client, may_send)
        self._places = places
        self._placed: dict[Label, Label] = {}
        self._as_of = places.changes

    def put(self, label: Label, message_id: str, reply: str, payload: bytes) -> bool:
        """See `PublishWire`."""
        if self._as_of != self._places.changes or len(self._placed) >= _MOST_LABELS:
            self._placed.clear()
            self._as_of = self._places.changes
        placed = self._placed.get(label)
        if placed is None:
            headers = {**label.headers, "Nats-Expected-Stream": SLOT_STREAM}
            placed = self._placed[label] = Label(self._places.subject(label.subject), headers)
        return super().put(placed, message_id, reply, payload)

    async def send(self, subject: str, reply: str, headers: dict[str, str], payload: bytes) -> None:
        """See `PublishWire`."""
        headers = {**headers, "Nats-Expected-Stream": SLOT_STREAM}
        await super().send(self._places.subject(subject), reply, headers, payload)


def wire_of(client: Client, may_send: Callable[[], bool], places: Places | None) -> PublishWire:
    """Return the wire to these places, or an ordinary one."""
    return PublishWire(client, may_send) if places is None else PlacedWire(client, may_send, places)
