"""What is published, and what its publisher tells about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from sandbox_core.metrics import Drop

from .wire import MESSAGE_ID, Label


# A structure is made without running Python code. Nothing that `context` leads to may refer back to it: the
# collector passes it by.
class Publication(msgspec.Struct, gc=False, eq=False):
    """One message on its way; `context` is the caller's, handed back when it is acknowledged."""

    label: Label
    """Where it goes, and its headers but the id."""
    message_id: str
    """What JetStream recognises a repetition by."""
    payload: bytes
    context: Any
    is_dead_letter: bool = False
    """True when it could not be published where it belongs."""
    number: int = -1
    """The publisher's, in the order of submission."""
    sent_at: float = 0.0
    """When it was sent last, in seconds of the monotonic clock; 0 while it waits to be sent."""
    unanswered: int = 0
    """How many times it was sent without hearing that JetStream did not take it."""
    unanswered_since: float = 0.0
    """When the first of those was sent, in seconds of the monotonic clock: it may be stored since."""

    @property
    def subject(self) -> str:
        """Where it goes."""
        return self.label.subject

    @property
    def headers(self) -> dict[str, str]:
        """All of its headers, in a mapping of the caller's own."""
        return {MESSAGE_ID: self.message_id, **self.label.headers}

    def was_not_stored(self) -> None:
        """JetStream said of an attempt that it did not take it."""
        self.unanswered = max(0, self.unanswered - 1)
        if self.unanswered == 0:
            self.unanswered_since = 0.0

    def label_anew(self, subject: str, headers: Mapping[str, str]) -> None:
        """Have it go to `subject` with these headers and its id."""
        self.label = Label(subject, headers)


class Publisher(Protocol):
    """Publishes until acknowledged; see `AckPublisher`."""

    def submit(self, publication: Publication) -> None: ...

    def in_flight(self) -> list[Publication]: ...

    def withdraw(self, publication: Publication) -> None: ...


class PublisherEvents(Protocol):
    """What the publisher tells whoever submits, on the event loop."""

    def acknowledged(self, publications: Sequence[Publication]) -> None:
        """JetStream has stored these messages (or had stored them before)."""

    def attempt_failed(self, reason: str) -> None:
        """An attempt failed and will be repeated; `reason` is one of a small fixed set."""

    def given_up(self, publication: Publication, reason: Drop, before: float) -> None:
        """A publication is tried no more. Only a publisher with a patience says so.

        What came before that moment (monotonic, in seconds) and waits behind it has waited too long as well.
        """
