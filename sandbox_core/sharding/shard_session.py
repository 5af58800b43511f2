"""The gateway session of one shard: where it can be resumed, and what is known of it here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from sandbox_core.event_router import GatewayIntake
from sandbox_core.metrics import Metrics
from sandbox_core.models import ResumePoint

from . import tuning

_log = structlog.get_logger("sandbox.gateway")

_MOST_MARKS = 1000


class Receipts:
    """When a session's frames were received, to within one save.

    A mark is a moment and a sequence: no later frame was received, or published, before that moment.
    """

    def __init__(self, session_id: str, moment: float, sequence: int, stored: Iterable[int] = ()) -> None:
        self.session_id = session_id
        self._marks = deque([(moment, sequence)])
        # Up to here another process may have published, at any time since it began to.
        self._inherited = max(stored, default=0)
        self._apart = 0.0

    def mark(self, now: float, received: int) -> None:
        """`received` is the highest sequence received until `now`."""
        sequence = max(received, self._inherited)
        marks = self._marks
        if len(marks) > 1 and (marks[-1][1] == sequence or marks[-1][0] - marks[-2][0] < self._apart):
            marks.pop()
        marks.append((now, sequence))
        if len(marks) > _MOST_MARKS:
            # One frame is not acknowledged for long. An earlier moment is as right as a later one.
            self._apart = 2 * (marks[-1][0] - marks[0][0]) / _MOST_MARKS
            self._marks = deque(list(marks)[::2])

    def since(self, sequence: int) -> float:
        """The latest moment known before which no frame after `sequence` was received."""
        while len(self._marks) > 1 and self._marks[1][1] <= sequence:
            self._marks.popleft()
            self._apart = 0.0
        return self._marks[0][0]


class ShardSession:
    """What this process knows of one shard's session. `now` is in seconds since the epoch."""

    def __init__(
        self,
        shard_id: int,
        intake: GatewayIntake,
        metrics: Metrics,
        next_connection: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self.id = shard_id
        self.connection = 0
        """The number of its connection; 0 while it has none with an established session."""
        self.introduced = False
        """discord.py has seen a READY of the shard, Discord's or one of our own."""
        self._intake = intake
        self._metrics = metrics
        self._next_connection = next_connection
        self._now = now
        self._url: str | None = None
        """Where the session is resumed; None while none goes on here."""
        self._found: ResumePoint | None = None
        """Where an earlier process left it."""
        self._stored: set[int] = set()
        """The sequences after the point found whose events are stored."""
        self._receipts: Receipts | None = None
        self._epoch = 0
        """The latest epoch known of the session."""
        self._may_leave_a_gap = False
        """The session was refused, or is not known: the next READY begins another one."""
        self._is_disowned = False
        self._written: ResumePoint | None = None
        self._written_at = 0.0

    # The connection

    def established(self) -> None:
        """READY or RESUMED came."""
        self.connection = self._next_connection()
        self._metrics.gateway_connected.labels(shard=self.id).set(1)

    def disconnected(self) -> None:
        """The connection ended; the session may well go on."""
        self.connection = 0
        self._metrics.gateway_connected.labels(shard=self.id).set(0)

    # Where it goes on

    def found(self, point: ResumePoint, stored: set[int]) -> None:
        """An earlier process left the session there; `stored` are later sequences that are stored."""
        self._found, self._stored, self._epoch = point, stored, point.epoch

    def lose_track(self) -> None:
        """There may be a session that can't be resumed: the next one leaves out what it would replay."""
        self._may_leave_a_gap = True

    def resume_point(self) -> ResumePoint | None:
        """Where to resume now, or None when the shard has to identify."""
        ledger = self._intake.ledger(self.id)
        if ledger is not None and self._url is not None:
            # What this process has received it keeps until it is acknowledged: no replay is needed.
            return ResumePoint(ledger.session_id, self._url, ledger.received)
        return self._found

    def resuming(self, point: ResumePoint) -> None:
        """The shard sends RESUME: its frames belong to this session."""
        stored, self._found, self._stored = self._stored, None, set()
        self._url = point.resume_url
        self._intake.adopt(point.session_id, self.id, point.sequence, stored)
        if self._receipts is None or self._receipts.session_id != point.session_id:
            self._receipts = Receipts(point.session_id, point.since, point.sequence, stored)

    def use_instead(self, url: str) -> None:
        """The resume URL does not answer: resume at `url` from now on."""
        point = self.resume_point()
        if point is not None:
            self.resuming(replace(point, resume_url=url))

    def began(self, resume_url: str) -> None:
        """READY came: a new session, which the intake knows already."""
        # Where another process publishes the shard, it is judged when that is gone.
        if self._may_leave_a_gap and self._intake.waiting(self.id) is None:
            # Between the old session's last frame and this one's first, Discord may have had events.
            self._metrics.gateway_gaps.inc()
            _log.error("session_lost", shard=self.id, consequence="events in between may be missing")
        self._may_leave_a_gap = False
        self._url = resume_url
        ledger = self._intake.ledger(self.id)
        if ledger is not None:
            self._receipts = Receipts(ledger.session_id, self._now(), 0)
        self.introduced = True

    def refused(self) -> ResumePoint | None:
        """Discord says that the session can't be resumed; returns where that was tried."""
        point = self.resume_point()
        self._may_leave_a_gap = self._may_leave_a_gap or point is not None
        self._url = self._found = self._receipts = self._written = None
        self._stored = set()
        return point

    def disown(self) -> None:
        """Another process has the shard: from now on nothing of its session is published or saved here."""
        self._is_disowned = True
        # A session that Discord has ended is replayed to nobody: what was taken of it is still published.
        if self._url is not None:
            self._intake.lose(self.id)

    # What is saved of it

    def point_to_save(self, now: float, lease_epoch: int) -> ResumePoint | None:
        """Where whoever comes next is to resume; None when that is not this process's to say."""
        if self._url is None or self._is_disowned or self._intake.waiting(self.id) is not None:
            return None
        ledger, receipts = self._intake.ledger(self.id), self._receipts
        if ledger is None or receipts is None or receipts.session_id != ledger.session_id:
            return None
        receipts.mark(now, ledger.received)
        done = ledger.acknowledged
        # Who runs the shard without a lease, PostgreSQL being away, goes on in place of whom it found; and a
        # database that is restored from a copy counts from an earlier epoch again.
        self._epoch = max(lease_epoch, self._epoch)
        return ResumePoint(ledger.session_id, self._url, done, receipts.since(done), now, self._epoch)

    def is_due(self, point: ResumePoint, at: float) -> bool:
        """Whether the point says more than the one that was written last; `at` is on the monotonic clock."""
        written = self._written
        if written is None or at - self._written_at >= tuning.SAVED_AGAIN_AFTER:
            return True
        return replace(point, since=written.since, saved_at=written.saved_at) != written

    def written(self, point: ResumePoint, at: float) -> None:
        """The point is kept in a store."""
        self._written, self._written_at = point, at
