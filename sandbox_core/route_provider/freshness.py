"""As of when the in-process route table is known to be what PostgreSQL says, guild by guild.

Another process may know something later, and something older may still be told: the moments decide. All are
the database's, in seconds since the epoch.

A heartbeat that PostgreSQL answers brings with it every notification whose transaction had been answered
before: from then on the table is known as of the heartbeat's moment, but for the guilds that were notified
of and whose routes are not read yet. These stay at what was known before.
"""

from __future__ import annotations

import math
from collections.abc import Collection


class Freshness:
    """Kept by who changes the table; before its first full read nothing is known."""

    def __init__(self) -> None:
        self._general = -math.inf
        self._apart: dict[str, float] = {}
        """Guilds that are known as of another moment than the rest."""

    def of(self, guild_id: str) -> float:
        """Every change of this guild's that was committed before is in the table."""
        return self._apart.get(guild_id, self._general)

    def confirmed(self, moment: float, unknown: Collection[str]) -> None:
        """A heartbeat of that moment was answered; `unknown` guilds still have to be read."""
        self._apart = {guild_id: known for guild_id, known in self._apart.items() if guild_id in unknown}
        self._general = moment

    def loaded(self, moment: float, unknown: Collection[str]) -> None:
        """Everything was read, later than at that moment."""
        self._apart = dict.fromkeys(unknown, moment)
        self._general = moment

    def doubted(self, guild_ids: Collection[str]) -> None:
        """These guilds' routes may have changed: until they are read, they are known only as of now."""
        for guild_id in guild_ids:
            self._apart.setdefault(guild_id, self._general)

    def read(self, guild_ids: Collection[str], moment: float) -> None:
        """These guilds' routes were read, later than at that moment."""
        self._apart.update(dict.fromkeys(guild_ids, moment))
