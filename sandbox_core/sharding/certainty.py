"""How certain a process can be of the leases it holds, from what both servers let it know.

- As long as its last renewal was asked for less than a lease ago, nobody takes what it holds, by the
  database's own clock: unless both servers say that it is gone, for which its connection to NATS must have
  been lost.
- While NATS is away it publishes nothing. After that it sends nothing before PostgreSQL has confirmed its
  leases, however long they would still hold.
- While PostgreSQL is away as well, it waits until it would have heard of a takeover from NATS: takers say it
  in every turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sandbox_core.lease_trust import LeaseTrust

from . import tuning


class Certainty:
    """Keeps the moments on which that depends, and tells `trust` until when events may be sent.

    A turn is asked of PostgreSQL at a moment, and what it answers holds as of that moment. `lease` and
    `monotonic` are in seconds.
    """

    def __init__(self, trust: LeaseTrust, lease: float, monotonic: Callable[[], float]) -> None:
        self._trust = trust
        self._lease = lease
        self._monotonic = monotonic
        self._confirmed_at = -math.inf
        self._reached_since = math.inf
        self._nats_lost_at = -math.inf
        self._nats_back_at = -math.inf

    @property
    def nobody_else_can_have_them(self) -> bool:
        """True for as long as leases that were confirmed hold, by the database's own clock."""
        since_nats = max(self._nats_lost_at, self._nats_back_at)
        return self._confirmed_at >= since_nats and self._monotonic() < self._confirmed_at + self._lease

    def may_take_lapsed(self, asked_at: float) -> bool:
        """True when the database was reached for a whole lease: whoever lives has renewed its own by then."""
        return asked_at - self._reached_since >= self._lease

    def confirmed(self, asked_at: float) -> None:
        """PostgreSQL answered a turn."""
        self._confirmed_at = asked_at
        self._reached_since = min(self._reached_since, asked_at)

    def trust_confirmed(self) -> None:
        """What was decided for shards that are lost is discarded: the rest may be sent."""
        # A turn that was asked before NATS came back does not know who took what meanwhile.
        if self._confirmed_at >= self._nats_back_at:
            self._trust.extend(self._confirmed_at + self._lease * tuning.TRUSTED_SHARE)

    def unanswered(self, asked_at: float) -> None:
        """PostgreSQL did not answer a turn. Nobody takes a lease that lapses while it is away from all."""
        now = self._monotonic()
        self._reached_since = math.inf
        # A turn that stood still in between says nothing about the database; the next one does.
        stood_still = now - asked_at >= tuning.TURN_WITHIN + tuning.STOOD_STILL
        may_have_missed_a_takeover = now < self._nats_back_at + tuning.TOLD_AGAIN_WITHIN
        if not stood_still and not may_have_missed_a_takeover:
            self._trust.extend(now + self._lease * tuning.TRUSTED_SHARE)

    def nats_is_away(self) -> None:
        """From now on others may take this process for gone, when its session in PostgreSQL is over, too."""
        self._nats_lost_at = self._monotonic()

    def nats_is_back(self) -> None:
        """Nothing is sent before PostgreSQL confirms the leases: others may have taken them.

        Without PostgreSQL, takeovers may have been told in vain: nothing is sent before they are again.
        """
        self._nats_back_at = self._monotonic()
        self._trust.end()

    def given_up(self) -> None:
        """The leases are given up."""
        self._trust.end()
