"""What the streams hold of some guilds, with its content."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from .dead_letters import CONSUMER, ORIGIN
from .errors import translating
from .every_stream import Reads
from .message_ids import Content
from .stored import CLOCK_MARGIN

_GZIP = 16 + zlib.MAX_WBITS


class StoredContents:
    """Reads stored events back."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def read(
        self, guild_ids: Collection[str], since: float, found: Callable[[str, bytes, float], None]
    ) -> None:
        """Tell `found` the guild, the payload and the moment of each event stored since (epoch's seconds).

        "" in `guild_ids` stands for events without a guild. A missing stream holds none. Raises
        `DependencyUnavailable` when not all could be read.
        """

        def on_content(content: Content) -> None:
            if content.header(CONSUMER) is not None or content.header(ORIGIN) is not None:
                # A worker's dead letter or a repetition: the event itself has a message of its own.
                return
            guild_id = content.header("Discord-Guild-Id") or ""
            if guild_id in guild_ids:
                found(guild_id, _payload(content), content.stored_at)

        begin = datetime.fromtimestamp(max(since - CLOCK_MARGIN, 0.0), UTC)
        with translating():
            await self._reads.read_whole(begin, on_content)


def _payload(content: Content) -> bytes:
    if content.header("Content-Encoding") != "gzip":
        return content.payload
    try:
        return zlib.decompress(content.payload, _GZIP)
    except zlib.error:
        # Somebody else's message: it is no copy of any event.
        return content.payload
