"""What is published, and what its publisher tells about it."""

from __future__ import annotations

from typing import Protocol

import msgspec

MESSAGE_ID = "Nats-Msg-Id"
"""The header by which JetStream recognises a repeated message within the stream's duplicate window."""


# A structure is made without running Python code. Nothing that `context` leads to may refer back to it: the
# collector passes it by.
class Publication(msgspec.Struct, gc=False, eq=False):
    """One message on its way; `context` is the caller's, handed back when it is acknowledged."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    context: object
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
    def message_id(self) -> str:
        """What JetStream recognises a repetition by, or "" when it has nothing to."""
        return self.headers.get(MESSAGE_ID, "")


class PublisherEvents(Protocol):
    """What the publisher tells its owner, on the event loop."""

    def acknowledged(self, publication: Publication) -> None:
        """JetStream has stored the message (or had stored it before)."""

    def attempt_failed(self, reason: str) -> None:
        """An attempt failed and will be repeated; `reason` is one of a small fixed set."""
