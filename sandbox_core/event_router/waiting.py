"""What a session brings while another process publishes the same shard.

Both processes have a session of their own and get the same events. The one that stands by keeps its events
until it knows that the other one's copies are stored: when the other one is gone, it publishes the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sandbox_core.attribution import ChannelGuilds
from sandbox_core.events import Frame
from sandbox_core.routing import is_handled_here

from .ledger import ShardLedger

_MOST_FRAMES = 200_000
_MOST_BYTES = 128 * 1024 * 1024
_MOST_SECONDS = 300.0


class WaitingFrames:
    """The frames of one shard, oldest first; the oldest go when there are too many.

    Moments are those of the frames: of the monotonic clock, in seconds.
    """

    def __init__(self, channels: ChannelGuilds, now: float) -> None:
        self._channels = channels
        self.frames: deque[tuple[Frame, ShardLedger]] = deque()
        self.complete_since = now
        """Everything that happened from this moment on has been kept here, or is stored."""
        self.first_at: float | None = None
        """When the first event came since then, but for snapshots."""
        self.bounded = True
        """False while nothing may be given up: this process is about to publish it."""
        self.snapshots: set[int] = set()
        """Places of a new session's own GUILD_CREATEs, as `id` of the frame: they tell of no change."""
        self._announced: set[str] = set()
        self._bytes = 0

    @property
    def is_crowded(self) -> bool:
        """More is kept than should be, and nothing of it may be given up."""
        return not self.bounded and (len(self.frames) > _MOST_FRAMES or self._bytes > _MOST_BYTES)

    def began(self, guild_ids: set[str], now: float) -> None:
        """A new session began: a GUILD_CREATE comes of each of these guilds, which nothing has changed."""
        self._announced = guild_ids
        self.complete_since = now
        self.first_at = None

    def put_back(self, frames: Iterable[Frame], ledger: ShardLedger) -> None:
        """Keep frames that had been taken before."""
        for frame in frames:
            self._append(frame, ledger)
        if self.frames:
            self.complete_since = min(self.complete_since, self.frames[0][0].received_at)

    def keep(self, frame: Frame, ledger: ShardLedger) -> None:
        """Keep one frame; what the publishing process handles itself is nobody's to publish."""
        if not ledger.hear(frame.seq):
            return
        if frame.guild_id is not None:
            self._channels.learn(frame)
        if is_handled_here(frame):
            return
        if frame.guild_id in self._announced and frame.type == "GUILD_CREATE":
            self._announced.remove(frame.guild_id)
            self.snapshots.add(id(frame))
        if self.first_at is None and id(frame) not in self.snapshots:
            self.first_at = frame.received_at
        self._append(frame, ledger)
        if self.bounded:
            while (
                len(self.frames) > _MOST_FRAMES
                or self._bytes > _MOST_BYTES
                or self.frames[0][0].received_at < frame.received_at - _MOST_SECONDS
            ):
                self._drop_first()
                # What is first now came after what was given up.
                self.complete_since = max(self.complete_since, self.frames[0][0].received_at)

    def stored_before(self, moment: float) -> None:
        """Everything that happened before `moment` is stored: it need not be kept."""
        while self.frames and self.frames[0][0].received_at < moment:
            self._drop_first()

    def _append(self, frame: Frame, ledger: ShardLedger) -> None:
        self.frames.append((frame, ledger))
        self._bytes += len(frame.raw)

    def _drop_first(self) -> None:
        frame, _ = self.frames.popleft()
        self._bytes -= len(frame.raw)
        self.snapshots.discard(id(frame))
