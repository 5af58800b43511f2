"""Whose events a stream holds, and when each guild's last one was stored.

A subject tells an event's type, not its guild: that stands in a header. So messages are read, headers only,
as far back as their number allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from sandbox_core.errors import DependencyUnavailable

from .errors import DEPENDENCY, translating
from .message_ids import Batches, MessageIds, TooManyMessagesError, place_of

GUILD_HEADER = "Discord-Guild-Id"
# Every new session brings one per guild: that is no sign of life in the guild.
_NO_SIGN_OF_LIFE = b".GUILD_CREATE"


@dataclass(slots=True)
class Found:
    """When each guild's last event was stored, in seconds since the epoch; complete from `since` on."""

    since: float
    last: dict[str, float] = field(default_factory=dict)


class StreamGuilds:
    """Reads the stream `stream`; `now` is in seconds since the epoch."""

    def __init__(
        self,
        message_ids: MessageIds,
        js: JetStreamContext,
        stream: str,
        subject: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._message_ids = message_ids
        self._js = js
        self._stream = stream
        self._subject = subject
        self._now = now

    async def look(self, spans: Sequence[float], *, at_most: int) -> Found:
        """Read the longest of the `spans`, in seconds back from now, that holds at most so many messages.

        `spans` begins with the longest. Raises `DependencyUnavailable`.
        """
        now = self._now()
        for span in spans:
            try:
                with translating():
                    return await self._read(now - span, now, at_most)
            except TooManyMessagesError:
                continue
        return Found(now)

    async def _read(self, begin: float, now: float, at_most: int) -> Found:
        replies: dict[str, bytes] = {}

        def found(guild_id: str) -> None:
            if not batches.subject.endswith(_NO_SIGN_OF_LIFE):
                replies[guild_id] = batches.reply

        try:
            before = (await self._js.stream_info(self._stream)).state
        except NotFoundError:
            raise DependencyUnavailable(DEPENDENCY, f"the stream {self._stream} is missing") from None
        batches = Batches(found, header=GUILD_HEADER)
        moment = datetime.fromtimestamp(begin, UTC)
        await self._message_ids.read_into(batches, self._stream, self._subject, moment, at_most=at_most)
        last = {guild_id: placed[1] for guild_id, reply in replies.items() if (placed := place_of(reply))}
        since = begin
        if before.first_seq > 1:
            # Something was discarded, by age or to make room: how far back does the rest reach?
            place = place_of(batches.first_reply)
            if not before.messages:
                since = now
            elif place is not None and place[0] <= before.first_seq:
                since = max(begin, place[1])
        return Found(since, last)
