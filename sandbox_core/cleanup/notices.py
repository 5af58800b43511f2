"""Who is to be told what: before a sandbox expires, when it is gone, and when it can't be removed.

A notice is written to the database before it is handed out to be sent, one at a time: of several processes
one sends it, and a process that dies in between loses that one rather than sending it twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sandbox_core.manager import utc_now
from sandbox_core.models import Sandbox
from sandbox_core.postgres import Pool, cleanup, connected, notices, sandboxes, transaction
from sandbox_core.postgres.cleanup import Failure

GONE_WITHIN = timedelta(hours=1)
"""How long after a sandbox's end its owner is still told; after a long outage nobody wants old news."""
STUCK_AFTER = 3
"""Failures in a row after which the bot's owner is told."""


class NoticeKind(StrEnum):
    """What a notice is about."""

    EXPIRES = "expires"
    """To the sandbox's owner: it will expire at `about`."""
    GONE = "gone"
    """To the sandbox's owner: it was removed at `about`, by somebody else or because its time was over."""
    STUCK = "stuck"
    """To the bot's owner: its removal fails again and again; `failure` says why."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to send, noted as sent already. `key` tells it from others about the same sandbox."""

    kind: NoticeKind
    sandbox: Sandbox
    about: datetime
    key: str
    failure: Failure | None = None


class Notices:
    """Hands out what is to be sent now. Every method raises `DependencyUnavailable`."""

    def __init__(
        self, pool: Pool, *, leads: Sequence[timedelta], clock: Callable[[], datetime] = utc_now
    ) -> None:
        """`leads`: how long before its expiry a sandbox's owner is told."""
        self._pool = pool
        self._leads = sorted(leads)
        self._clock = clock

    async def take(self) -> AsyncIterator[Notice]:
        """Every notice that is to be sent now, each handed out once, to one process.

        Each is noted as sent when it is asked for: whoever stops in between leaves the rest to be taken.
        """
        for kind in (self._expiring, self._gone, self._stuck):
            async for notice in kind():
                yield notice

    async def give_back(self, notice: Notice) -> None:
        """Undo `take` for a notice that certainly was not sent, so that it is handed out again."""
        async with connected(self._pool) as connection:
            await notices.withdraw(connection, notice.sandbox.id, notice.key, notice.about)

    async def _expiring(self) -> AsyncIterator[Notice]:
        if not self._leads:
            return
        async with connected(self._pool) as connection:
            candidates = await notices.expiring(connection, self._clock(), self._leads[-1])
        for candidate in candidates:
            sandbox = candidate.sandbox
            # Asked each time: sending the one before may have taken a while.
            now = self._clock()
            due = leads_due(sandbox.expires_at, candidate.settled_at, now, self._leads)
            if due and await self._claim_expiry(sandbox, due, now):
                yield Notice(NoticeKind.EXPIRES, sandbox, sandbox.expires_at, _key(due[0]))

    async def _claim_expiry(self, sandbox: Sandbox, due: Sequence[timedelta], now: datetime) -> bool:
        async with transaction(self._pool) as connection:
            current = await sandboxes.by_id(connection, sandbox.id, lock=True)
            # Extended, destroyed or over since it was found.
            if current is None or not current.routes_at(now) or current.expires_at != sandbox.expires_at:
                return False
            kinds = [_key(lead) for lead in due]
            fresh = await notices.claim(connection, sandbox.id, kinds, sandbox.expires_at, now)
        # After an outage several are due at once: the one nearest to the end says it all.
        return kinds[0] in fresh

    async def _gone(self) -> AsyncIterator[Notice]:
        now = self._clock()
        kind = NoticeKind.GONE.value
        async with connected(self._pool) as connection:
            candidates = await notices.gone(connection, now - GONE_WITHIN, kind)
        for sandbox in candidates:
            about = sandbox.destroyed_at or now
            async with transaction(self._pool) as connection:
                fresh = await notices.claim(connection, sandbox.id, [kind], about, now)
            if fresh:
                yield Notice(NoticeKind.GONE, sandbox, about, kind)

    async def _stuck(self) -> AsyncIterator[Notice]:
        now = self._clock()
        kind = NoticeKind.STUCK.value
        async with connected(self._pool) as connection:
            failures = await cleanup.failures(connection, at_least=STUCK_AFTER)
        for failure in failures:
            # Once for each sandbox, so the moment is one that never changes.
            about = failure.sandbox.created_at
            async with transaction(self._pool) as connection:
                fresh = await notices.claim(connection, failure.sandbox.id, [kind], about, now)
            if fresh:
                yield Notice(NoticeKind.STUCK, failure.sandbox, about, kind, failure)


def leads_due(
    expires_at: datetime, settled_at: datetime, now: datetime, leads: Sequence[timedelta]
) -> list[timedelta]:
    """Which of `leads` (ascending) have come, the shortest first.

    None that had passed already when the expiry was decided: who makes a sandbox for half an hour need not
    be told at once that it ends within one.
    """
    return [lead for lead in leads if settled_at < expires_at - lead <= now]


def _key(lead: timedelta) -> str:
    return f"{NoticeKind.EXPIRES.value}:{int(lead.total_seconds())}"
