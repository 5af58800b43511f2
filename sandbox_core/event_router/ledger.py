"""What was received and is not done: per session, for its resume point, and in all, for back-pressure.

Sequence numbers have gaps, so "contiguous" means by order of receipt: the resume point is the last
frame before which every received frame is done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

# Bytes of frames held at most, next to the number of frames: a GUILD_CREATE can be megabytes.
_MOST_BYTES = 128 * 1024 * 1024


class ShardLedger:
    """The frames of one session on one shard, from the resume point on."""

    __slots__ = (
        "_done",
        "_empty",
        "_pending",
        "_stored",
        "acknowledged",
        "id_prefix",
        "lost",
        "received",
        "resume_url",
        "session_id",
        "shard",
        "shard_id",
    )

    def __init__(
        self,
        session_id: str,
        shard_id: int,
        acknowledged: int = 0,
        stored: Iterable[int] = (),
        *,
        resume_url: str = "",
    ) -> None:
        """`acknowledged` is where a resumed session goes on; a new one starts at 0.

        `stored` are sequences beyond it whose events another process has published already.
        """
        self.session_id = session_id
        self.resume_url = resume_url
        """Where its READY says that it can be resumed; "" for a session that began elsewhere."""
        self.shard_id = shard_id
        self.shard = str(shard_id)
        self.id_prefix = f"{session_id}:{shard_id}:"
        """What stands before the sequence in the ids of this session's messages."""
        self.received = acknowledged
        """The highest sequence received."""
        self.acknowledged = acknowledged
        """The resume point: a RESUME from here misses nothing."""
        self.lost = False
        """True when another process goes on with the session."""
        self._pending: deque[int] = deque()
        self._done: set[int] = set()
        self._stored = set(stored)
        self._empty: asyncio.Event | None = None

    @property
    def lag(self) -> int:
        """Frames received and not yet done."""
        return len(self._pending) - len(self._done)

    def receive(self, seq: int) -> bool:
        """Note a frame; False when there is nothing to do with it.

        That is so when this session's replay brings one that is here already, or one that another process
        had published, and when the session is lost.
        """
        if seq <= self.received or self.lost:
            return False
        self.received = seq
        self._pending.append(seq)
        if self._stored and seq in self._stored:
            self._stored.discard(seq)
            self.done(seq)
            return False
        return True

    def hear(self, seq: int) -> bool:
        """Note a frame that is not published yet, as another process does that; False when it is known."""
        if seq <= self.received or self.lost:
            return False
        self.received = seq
        return True

    def reopen(self, seq: int) -> int:
        """What was heard after `seq` is to be received now; returns what was heard last."""
        heard = self.received
        self.received = self.acknowledged = min(seq, heard)
        return heard

    def passed(self, seq: int) -> None:
        """A frame is done without being published here."""
        if self.receive(seq):
            self.done(seq)

    def done(self, seq: int) -> None:
        """Mark a received frame as acknowledged or handled; moves the resume point when it can."""
        pending = self._pending
        if not pending or pending[0] != seq:
            self._done.add(seq)
            return
        pending.popleft()
        done = self._done
        while pending and pending[0] in done:
            seq = pending.popleft()
            done.discard(seq)
        self.acknowledged = seq
        if self._empty is not None and not pending:
            self._empty.set()

    def lose(self) -> None:
        """Another process has the session: it gets what is not done, and nothing more is received here."""
        self.lost = True
        self._pending.clear()
        self._done.clear()
        if self._empty is not None:
            self._empty.set()

    async def drained(self) -> None:
        """Return when every frame received is done."""
        while self._pending:
            self._empty = asyncio.Event()
            await self._empty.wait()


class Backlog:
    """Counts events; `most` of them is when a source that can wait should.

    A sandbox's events have a budget of their own, see `budget`: here they only hinder that all is idle.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        """Events taken and not yet acknowledged, but for those of sandboxes."""
        self.beside = 0
        """Events of sandboxes taken and not yet acknowledged or dropped."""
        self._bytes = 0
        self.full = False
        """True when the caller should wait for `room` before it reads on."""
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._joining: set[int] = set()
        """Shards of which events were kept that are about to be published."""

    def add(self, size: int) -> None:
        """An event of so many bytes was taken."""
        if not self.count:
            self._idle.clear()
        self.count += 1
        self._bytes += size
        if self.count >= self._most or self._bytes >= _MOST_BYTES:
            self.full = True
            self._room.clear()

    def take_off(self, count: int, size: int) -> None:
        """So many events, of so many bytes, are acknowledged, or not this process's any more."""
        self.count -= count
        self._bytes -= size
        if self.count == 0 and not self.beside and not self._joining:
            self._idle.set()
        # Half empty before it reads on: waking the reader for every single event costs more.
        if self.full and self.count <= self._most // 2 and self._bytes <= _MOST_BYTES // 2:
            self.full = False
            self._room.set()

    def put_beside(self, size: int) -> None:
        """An event of so many bytes turns out to be a sandbox's."""
        self.beside += 1
        self.take_off(1, size)
        was_too_much = self.count + 1 >= self._most or self._bytes + size >= _MOST_BYTES
        if self.full and was_too_much and self.count < self._most and self._bytes < _MOST_BYTES:
            # It was this one that was too much.
            self.full = False
            self._room.set()

    def take_off_beside(self) -> None:
        """An event of a sandbox is acknowledged or dropped."""
        self.beside -= 1
        if self.beside == 0:
            self.take_off(0, 0)

    def add_beside(self) -> None:
        """An event of a sandbox was taken."""
        if not self.beside:
            self._idle.clear()
        self.beside += 1

    async def room(self) -> None:
        """Return when there is room for more."""
        await self._room.wait()

    async def idle(self) -> None:
        """Return when nothing is left."""
        await self._idle.wait()

    def joining(self, shard_id: int) -> None:
        """Events that were kept of the shard are about to come: nothing is idle before."""
        self._joining.add(shard_id)
        self._idle.clear()

    def joined(self, shard_id: int) -> None:
        """They came, or will not come."""
        self._joining.discard(shard_id)
        if not self.count and not self.beside and not self._joining:
            self._idle.set()
