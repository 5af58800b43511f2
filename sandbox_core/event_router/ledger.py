"""Which frames of a gateway session are done, in the order they were received.

Sequence numbers have gaps, so "contiguous" means by order of receipt: the resume point is the last
frame before which every received frame is done.
"""

from __future__ import annotations

from collections import deque


class ShardLedger:
    """The frames of one session on one shard, from the resume point on."""

    __slots__ = ("_done", "_pending", "acknowledged", "received", "session_id", "shard_id")

    def __init__(self, session_id: str, shard_id: int, acknowledged: int = 0) -> None:
        """`acknowledged` is where a resumed session goes on; a new one starts at 0."""
        self.session_id = session_id
        self.shard_id = shard_id
        self.received = acknowledged
        """The highest sequence received."""
        self.acknowledged = acknowledged
        """The resume point: a RESUME from here misses nothing."""
        self._pending: deque[int] = deque()
        self._done: set[int] = set()

    @property
    def lag(self) -> int:
        """Frames received and not yet done."""
        return len(self._pending) - len(self._done)

    def receive(self, seq: int) -> bool:
        """Note a frame; False when this session's replay brings one that is here already."""
        if seq <= self.received:
            return False
        self.received = seq
        self._pending.append(seq)
        return True

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
