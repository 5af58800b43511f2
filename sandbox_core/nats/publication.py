"""What is published, and what its publisher tells about it."""

from __future__ import annotations

from typing import Protocol

MESSAGE_ID = "Nats-Msg-Id"
"""The header by which JetStream recognises a repeated message within the stream's duplicate window."""


class Publication:
    """One message on its way; `context` is the caller's, handed back when it is acknowledged."""

    __slots__ = (
        "context",
        "headers",
        "is_dead_letter",
        "number",
        "payload",
        "sent_at",
        "subject",
        "unanswered",
        "unanswered_since",
    )

    def __init__(self, subject: str, payload: bytes, headers: dict[str, str], context: object) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = headers
        self.context = context
        self.is_dead_letter = False
        """True when it could not be published where it belongs."""
        self.number = -1
        """The publisher's, in the order of submission."""
        self.sent_at = 0.0
        """When it was sent last, in seconds of the monotonic clock; 0 while it waits to be sent."""
        self.unanswered = 0
        """How many times it was sent without hearing that JetStream did not take it."""
        self.unanswered_since = 0.0
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
