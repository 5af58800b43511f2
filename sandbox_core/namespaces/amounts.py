"""How much each sandbox stores, and the pace at which that is found out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Amount:
    """What one sandbox stores in one store."""

    bytes: int = 0
    items: int = 0
    """Keys in Redis, tables in PostgreSQL."""
    at_least: bool = False
    """Whether a part of it could not be measured now."""

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.bytes + other.bytes, self.items + other.items, self.at_least or other.at_least)


async def _nothing() -> None:
    return


class Pace:
    """Spreads work at a server over time: after each piece, a rest that is several times as long."""

    def __init__(
        self,
        *,
        rests: float = 19.0,
        at_most: float = 1.0,
        every: float = 10.0,
        between: Callable[[], Awaitable[None]] = _nothing,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`rests` is the length of a rest in lengths of the piece before it, `at_most` its limit in seconds.

        `between` is called during the work, about `every` so many seconds.
        """
        self._rests = rests
        self._at_most = at_most
        self._every = every
        self._between = between
        self._monotonic = monotonic
        self._sleep = sleep
        self._since = self._told = monotonic()

    async def rest(self) -> None:
        """Rest for as long as the work since the last rest asks for."""
        worked = self._monotonic() - self._since
        await self._sleep(min(self._at_most, worked * self._rests))
        if self._monotonic() - self._told >= self._every:
            await self._between()
            self._told = self._monotonic()
        self._since = self._monotonic()
