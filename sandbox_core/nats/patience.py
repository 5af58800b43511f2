"""How long a publication to the sandboxes' stream is tried, while production's stream takes its own.

While NATS as a whole is away, nobody's patience ends: what waits is published when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sandbox_core.metrics import Drop

from .publication import Publication

_LONG = 30.0
_SHORT = 3.0


class Patience:
    """Tells which publications have waited too long. It is asked again and again; moments are in seconds.

    `works` is False while production's stream takes nothing either. `hinders` is True for a publication that
    something of production waits for; the patience with it is `short`.
    """

    def __init__(
        self,
        works: Callable[[], bool],
        hinders: Callable[[Publication], bool],
        *,
        long: float = _LONG,
        short: float = _SHORT,
    ) -> None:
        self._works = works
        self._hinders = hinders
        self._long = long
        self._short = short
        self._since: dict[int, float] = {}
        """When each outstanding publication, by its number, was first seen waiting while NATS worked."""

    def ended(
        self, outstanding: Iterable[Publication], now: float, *, is_open: bool
    ) -> list[tuple[Publication, Drop]]:
        """Those of the outstanding publications that are to be given up, and why.

        `is_open` is False while the stream is missing, or can't be used.
        """
        before, self._since = self._since, {}
        if not self._works():
            return []
        ended: list[tuple[Publication, Drop]] = []
        for publication in outstanding:
            since = self._since[publication.number] = before.get(publication.number, now)
            waited = now - since
            if waited >= self._long or (waited >= self._short and self._hinders(publication)):
                said: Drop = "no_ack" if publication.unanswered else "refused"
                ended.append((publication, said if is_open else "no_stream"))
        return ended
