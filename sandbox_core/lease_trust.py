"""Until when this process may act for its gateway shards.

A process that is frozen (SIGSTOP, a paused machine, a blocked event loop) does not notice. When it goes on,
others may have its shards and have published their events elsewhere, as routes change; what it had decided
before must then neither be sent nor saved. So whoever sends or saves looks at the clock first.
"""

from __future__ import annotations

import asyncio
import math


class LeaseTrust:
    """Kept by who renews the leases; without leases it always holds."""

    def __init__(self) -> None:
        self.until = math.inf
        """On the monotonic clock, in seconds: from then on nothing may be sent or saved."""
        self._extended = asyncio.Event()

    def extend(self, until: float) -> None:
        """The leases were renewed, or nobody can take them; `until` is on the monotonic clock."""
        self.until = until
        self._extended.set()
        self._extended = asyncio.Event()

    def end(self) -> None:
        """The leases are given up, or others may have taken them."""
        self.until = -math.inf

    async def extended(self) -> None:
        """Return when `extend` is called next."""
        await self._extended.wait()
