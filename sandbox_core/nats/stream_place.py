"""Where events are: one stream, on one server."""

from __future__ import annotations

from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from sandbox_core.errors import DependencyUnavailable

from .connection import NatsConnection
from .errors import DEPENDENCY, translating

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a stream has now."""

    birth: int
    """When it was made, in microseconds since the epoch: with memory streams a restart makes another one."""
    first: int
    """The number of its oldest message; that of the next one when it is empty."""
    last: int


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """A sandbox's events in a stream. Methods raise `DependencyUnavailable`."""

    connection: NatsConnection
    js: JetStreamContext
    api: str
    """What the subjects of requests begin with."""
    stream: str
    subject: str
    """The events in it."""
    own: bool
    """Whether all of it is read, so that a gap in its numbers means lost events."""
    read_subject: str = ""
    """What is read where that is more than the events."""

    async def state(self) -> StreamState:
        """Return what the stream has."""
        with translating():
            try:
                info = await self.js.stream_info(self.stream)
            except NotFoundError:
                raise DependencyUnavailable(DEPENDENCY, f"the stream {self.stream} is missing") from None
        made = info.created
        birth = 0 if made is None else round(made.timestamp() * _MICROSECONDS)
        # The server says 0 of a stream that never had a message; its first one will be 1.
        return StreamState(birth, max(1, info.state.first_seq), info.state.last_seq)

    def is_event(self, subject: bytes) -> bool:
        """Whether what was read on this subject is an event; their pattern ends with one word of any kind."""
        return not self.read_subject or subject.count(b".") == self.subject.count(".")

    async def last(self) -> int:
        """Return the number of the sandbox's last event in the stream; 0 without one."""
        with translating():
            try:
                found = await self.js.get_last_msg(self.stream, self.subject)
            except NotFoundError:
                return 0
        return found.seq or 0
