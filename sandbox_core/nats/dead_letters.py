"""The events that a sandbox's worker could not handle: what such a letter says, and what is done with it.

A letter lies under `sandbox.{id}.events.dead_letter.{REASON}`, with an account in a stream of letters, else
among the sandbox's events. It goes with its sandbox, and does not age before.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from sandbox_core.errors import InvalidInput
from sandbox_core.subjects import is_sandbox_event, sandbox_dead_letters, sandbox_of

from .delivered import unpacked
from .errors import translating
from .wire import MESSAGE_ID

UNHANDLED = "UNHANDLED"
"""The reason of a worker's letter: it was delivered often enough."""

SUBJECT = "Dead-Letter-Subject"
"""Where the event stood. The names are those that the bot's own letters have."""
BYTES = "Dead-Letter-Bytes"
"""How large the payload was, where it did not fit and was left out."""
ORIGINAL_ID = "Dead-Letter-Msg-Id"
DELIVERIES = "Dead-Letter-Deliveries"
CONSUMER = "Dead-Letter-Consumer"
ERROR = "Dead-Letter-Error"
_NO_SUCH_NUMBER = 10043  # JetStream's JSSequenceNotFoundErr
ORIGIN = "Sandbox-Origin"
REPLAYED = "replayed"

KEPT_HEADERS = (
    "Discord-Event",
    "Discord-Guild-Id",
    "Discord-Shard",
    "Sandbox-Id",
    "Content-Encoding",
    "traceparent",
)
"""What an event's letter, and its repetition, have of the event's own headers."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter. Whoever can write to the stream can write its headers: nothing in them is certain."""

    id: int
    """Its number in the stream."""
    sandbox_id: str
    stored_at: datetime | None
    headers: Mapping[str, str]
    payload: bytes

    @property
    def subject(self) -> str:
        """Where the event stood."""
        return self.headers.get(SUBJECT, "")

    @property
    def event_type(self) -> str:
        """The event's type."""
        return self.subject.rsplit(".", 1)[-1]

    @property
    def frame(self) -> bytes:
        """Discord's frame, decompressed."""
        return unpacked(self.payload, self.headers)

    @property
    def deliveries(self) -> int:
        """How often it was delivered; 0 when that is not known."""
        text = self.headers.get(DELIVERIES, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    @property
    def obstacle(self) -> str:
        """Why it can't be replayed, as a sentence's end; "" when it can."""
        if not is_sandbox_event(self.sandbox_id, self.subject):
            return "it is of no event of this sandbox"
        return "its payload was too large to be kept" if BYTES in self.headers else ""


class DeadLetters:
    """Reads, repeats and removes the letters in one stream.

    Each method raises `DependencyUnavailable` when NATS is away.
    """

    def __init__(self, js: JetStreamContext, stream: str) -> None:
        self._js = js
        self._stream = stream

    async def list(self, sandbox_id: UUID, *, limit: int) -> list[DeadLetter]:
        """Return a sandbox's letters, the oldest first."""
        found: list[DeadLetter] = []
        subject, number = sandbox_dead_letters(sandbox_id), 0
        while len(found) < limit:
            try:
                with translating():
                    message = await self._js.get_msg(self._stream, seq=number + 1, subject=subject, next=True)
            except NotFoundError:
                break
            number = message.seq or number + 1
            found.append(_letter(sandbox_id, message))
        return found

    async def get(self, sandbox_id: UUID, number: str) -> DeadLetter:
        """Return the letter with this id. Raises `InvalidInput` when the sandbox has none."""
        missing = InvalidInput("dead letter", number, "the sandbox has none with this id", "`12`")
        if not (number.isascii() and number.isdigit() and int(number[:19]) > 0 and len(number) < 19):
            raise missing
        try:
            with translating():
                message = await self._js.get_msg(self._stream, seq=int(number))
        except (NotFoundError, binascii.Error):
            raise missing from None
        if not (message.subject or "").startswith(sandbox_dead_letters(sandbox_id)[:-1]):
            raise missing
        return _letter(sandbox_id, message)

    async def replay(self, letter: DeadLetter) -> None:
        """Put the event back onto its subject, under another message id, and remove the letter.

        When it is cut off in between, a second time does not repeat the event. Raises `InvalidInput` for a
        letter that can't be replayed.
        """
        if letter.obstacle:
            raise InvalidInput("dead letter", str(letter.id), letter.obstacle, "`12`")
        stored = 0 if letter.stored_at is None else letter.stored_at.timestamp()
        headers = {name: letter.headers[name] for name in KEPT_HEADERS if name in letter.headers}
        headers |= {MESSAGE_ID: f"replay:{letter.id}:{stored:.6f}", ORIGIN: REPLAYED}
        with translating():
            await self._republish(letter, headers)
        await self.drop(letter)

    async def _republish(self, letter: DeadLetter, headers: dict[str, str]) -> None:
        await self._js.publish(letter.subject, letter.payload, stream=self._stream, headers=headers)

    async def drop(self, letter: DeadLetter) -> None:
        """Remove the letter; one that is gone already is no error."""
        try:
            with translating():
                await self._js.delete_msg(self._stream, letter.id)
        except NotFoundError:
            return
        except APIError as error:
            if error.err_code != _NO_SUCH_NUMBER:
                raise

    async def counts(self) -> dict[str, int]:
        """Return how many letters each sandbox has, by its id; those without any are left out."""
        try:
            with translating():
                info = await self._js.stream_info(self._stream, subjects_filter=sandbox_dead_letters("*"))
        except NotFoundError:
            return {}
        found: dict[str, int] = {}
        for subject, count in (info.state.subjects or {}).items():
            sandbox_id = sandbox_of(subject)
            if sandbox_id is not None:
                found[sandbox_id] = found.get(sandbox_id, 0) + count
        return found


def _letter(sandbox_id: UUID, message: RawStreamMsg) -> DeadLetter:
    return DeadLetter(
        message.seq or 0, str(sandbox_id), message.time, message.headers or {}, message.data or b""
    )
