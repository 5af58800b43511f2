"""What the gateway endpoint keeps of a sandbox in the control plane's Redis, below `sandbox:gateway:`.

Its bots' sessions, the rings of their calls and sessions, counts for limits, and which tokens their events
had. All of it expires by itself; here it is found before, and removed with its sandbox.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from sandbox_core.redis.errors import translating
from sandbox_core.strangers import UNREADABLE
from sandbox_core.subjects import (
    CLIENT_SESSION_KEYS,
    GATEWAY_KEYS,
    HOLDER_DIGITS,
    NO_HOLDER,
    SEEN_TOKEN_KEYS,
    client_session_keys,
)
from sandbox_core.tasks import Cancellations

from .key_removal import scan

# Sandboxes have random ids. What counts calls of nobody's has an id of zeros, and is no sandbox's.
_ID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_NAMED = re.compile(rf":({_ID})(?::|\Z)")
_WHOSE = re.compile(rf"({_ID}) ")
_LOOKS = 4
"""Scans until one finds nothing: keys may come meanwhile, and a scan may miss these."""
KEPT_SECONDS = 600
"""How long a session can be resumed after it was last heard of. Its stream keeps events for less."""
_HEARD_WITHIN = 100
"""Seconds within which a session is saved again while its client is connected: it sends heartbeats."""
_SHORT = 8


class _Record(msgspec.Struct):
    """What is needed here of a session's record; `sandbox_gateway` writes it."""

    marks: list[tuple[int, int]] = []
    library: str = ""


_DECODER = msgspec.json.Decoder(_Record)


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session of an ordinary bot that is connected, or can still be resumed."""

    number: str
    """Its first 8 digits, as `sessions` shows them."""
    library: str
    """As the bot calls it; "" when it does not say."""
    position: int | None
    """The last event of the stream that it has got, up to a second ago; None when that is not known."""
    connected: bool


class ClientTraces:
    """Finds and removes them. Methods raise `DependencyUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        """`redis` decodes replies to text."""
        self._redis = redis

    async def ids(self) -> set[str]:
        """Return the ids of all sandboxes of which something is kept."""
        with translating():
            return {found async for _, found in self._walk()}

    async def drop(self, sandbox_id: UUID) -> None:
        """Remove all that is kept of a sandbox."""
        wanted = str(sandbox_id)
        with translating():
            for _ in range(_LOOKS):
                mine = [key async for key, found in self._walk() if found == wanted]
                if not mine:
                    return
                await self._redis.unlink(*mine)

    async def connected(self, sandbox_id: UUID | None = None) -> dict[str, int]:
        """Return how many clients are connected, by sandbox; of one, or of all.

        Of a process that was killed they count for some seconds more.
        """
        pattern = CLIENT_SESSION_KEYS if sandbox_id is None else client_session_keys(sandbox_id)
        found: dict[str, int] = {}
        with translating():
            async for _, keys in scan(self._redis, pattern, Cancellations()):
                async for key, _, connected in self._sessions(keys):
                    if connected and (match := _NAMED.search(key)):
                        found[match[1]] = found.get(match[1], 0) + 1
        return found

    async def sessions(self, sandbox_id: UUID) -> list[KeptSession]:
        """Return the sandbox's sessions, each once, in a fixed order."""
        found: dict[str, KeptSession] = {}
        with translating():
            async for _, keys in scan(self._redis, client_session_keys(sandbox_id), Cancellations()):
                async for key, text, connected in self._sessions(keys):
                    found[key] = _kept(key, text, connected=connected)
        return [found[key] for key in sorted(found)]

    async def _sessions(self, keys: list[str]) -> AsyncIterator[tuple[str, str, bool]]:
        """Yield each session's key, its record's text, and whether it is connected."""
        if not keys:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.get(key)
                pipeline.pttl(key)
            answers = await pipeline.execute()
        for key, value, left in zip(keys, answers[::2], answers[1::2], strict=True):
            if value is None:
                continue
            holder, text = str(value)[:HOLDER_DIGITS], str(value)[HOLDER_DIGITS:]
            heard = left > (KEPT_SECONDS - _HEARD_WITHIN) * 1000
            yield key, text, holder != NO_HOLDER and heard

    async def _walk(self) -> AsyncIterator[tuple[str, str]]:
        """Yield each key with its sandbox's id."""
        async for _, keys in scan(self._redis, GATEWAY_KEYS, Cancellations()):
            tokens = []
            for key in keys:
                if match := _NAMED.search(key):
                    yield key, match[1]
                elif key.startswith(SEEN_TOKEN_KEYS):
                    tokens.append(key)
            for each in await self._whose(tokens):
                yield each

    async def _whose(self, keys: list[str]) -> Iterable[tuple[str, str]]:
        """A token's key has no id, for whoever asks has only the token."""
        if not keys:
            return ()
        values = await self._redis.mget(keys)
        matches = zip(keys, (_WHOSE.match(str(value)) for value in values), strict=True)
        return [(key, match[1]) for key, match in matches if match is not None]


def _kept(key: str, text: str, *, connected: bool) -> KeptSession:
    number = key.rpartition(":")[2][:_SHORT]
    try:
        record = _DECODER.decode(text)
    except UNREADABLE:
        return KeptSession(number, "", None, connected)
    position = max((position for _, position in record.marks), default=None)
    return KeptSession(number, record.library, position, connected)
