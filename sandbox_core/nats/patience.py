"""How long a publication to the sandboxes' stream is tried, while production's stream takes its own.

While NATS as a whole is away, nobody's patience ends: what waits is published when it is back. While a server
that is the sandboxes' own is away, it ends only with what production waits for.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

from sandbox_core.metrics import Drop

from .publication import Publication

_LONG = 30.0
SHORT = 3.0
ELECTION = 12.0
"""`short` on production's own servers: there a stream whose leader has died has none for up to nine seconds.

From nats-server's source, `raft.go` (`maxElectionTimeout`). The events wait as production's own do then.
"""


class Ended(NamedTuple):
    """A publication to give up, and why; what waits behind it goes too if it came before that moment."""

    publication: Publication
    reason: Drop
    before: float


class Patience:
    """Tells which publications have waited too long. It is asked again and again; moments are in seconds.

    `works` is False while production's stream takes nothing either; `answers` asks its server, as one
    that hangs looks as if it worked. `hinders` is True for a publication that
    something of production waits for; the patience with it is `short`. `came` is when the event came that a
    publication carries: after one of a sandbox is given up, the next ones are not waited for anew, until one
    of them is stored.
    """

    def __init__(
        self,
        works: Callable[[], bool],
        hinders: Callable[[Publication], bool],
        came: Callable[[Publication], float],
        *,
        answers: Callable[[], Awaitable[bool]] | None = None,
        long: float = _LONG,
        short: float = SHORT,
    ) -> None:
        self._works = works
        self._answers = answers
        self._hinders = hinders
        self._came = came
        self._long = long
        self._short = short
        self._works_since: float | None = None
        self._since: dict[int, tuple[float, str]] = {}
        """When each outstanding publication, by its number, was first seen while NATS worked; its sandbox."""
        self._was_away = False
        self._failing: set[str] = set()
        """Sandboxes of which one was given up, and none was stored since."""

    async def answers(self) -> bool:
        """Whether production's server answers; to be asked before `ended` is."""
        return self._answers is None or await self._answers()

    def begin_anew(self) -> None:
        """Production's server does not answer: nobody's patience ends, and then it begins anew."""
        self._since, self._works_since = {}, None

    def ended(
        self, outstanding: Collection[Publication], now: float, *, is_open: bool, is_away: bool = False
    ) -> list[Ended]:
        """Those of the outstanding publications that are to be given up, and why.

        `is_open` is False while the stream is missing, or can't be used; `is_away` is True while its server
        is, which may be another one than production's.
        """
        before, self._since = self._since, {}
        if is_away is not self._was_away:
            self._was_away, self._works_since = is_away, None
            self._failing.clear()
            before = {}
        if not self._works():
            self._works_since = None
            return []
        if self._works_since is None:
            self._works_since = now
        present = {publication.number for publication in outstanding}
        self._failing -= {sandbox for number, (_, sandbox) in before.items() if number not in present}
        ended = []
        for publication in outstanding:
            sandbox = publication.label.headers.get("Sandbox-Id", "")
            since, _ = before.get(publication.number, (now, sandbox))
            if sandbox in self._failing:
                since = min(since, max(self._came(publication), self._works_since))
            patience = math.inf if is_away else self._long
            if now - since >= self._short and self._hinders(publication):
                patience = self._short
            if now - since < patience:
                self._since[publication.number] = (since, sandbox)
                continue
            said: Drop = "no_ack" if publication.unanswered else "refused"
            ended.append(Ended(publication, said if is_open else "no_stream", now - patience))
        self._failing.update(each.publication.label.headers.get("Sandbox-Id", "") for each in ended)
        return ended
