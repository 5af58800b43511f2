"""Decides which notices to send: before a sandbox expires, after it was removed, when removal fails, and when
a sandbox stores too much.

A notice is recorded in the database before it is sent, one at a time. So only one process sends it. A process
that dies in between loses this notice; no process sends it twice. When the answer to the record's COMMIT is
lost, the process that made it looks later whether the record is there and its own, which its moment tells.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sandbox_core.errors import OutcomeUnknown
from sandbox_core.manager import utc_now
from sandbox_core.models import Sandbox
from sandbox_core.postgres import (
    Connection,
    Pool,
    cleanup,
    connected,
    notices,
    sandboxes,
    storage,
    transaction,
)
from sandbox_core.postgres.cleanup import Failure
from sandbox_core.stored import Level, StorageLimit, Stored

GONE_WITHIN = timedelta(hours=1)
"""The age of a removal up to which its owner gets a notice; after a long outage older ones are dropped."""
STUCK_AFTER = 3
"""The number of failures in a row after which the bot's owner gets a notice."""


class NoticeKind(StrEnum):
    """The kinds of notices."""

    EXPIRES = "expires"
    """To the sandbox's owner: the sandbox will expire at `about`."""
    GONE = "gone"
    """To the sandbox's owner: the sandbox was removed at `about`, by another person or after its expiry."""
    STUCK = "stuck"
    """To the bot's owner: the sandbox's removal fails repeatedly; `failure` says why."""
    STORAGE = "storage"
    """To the sandbox's owner: the sandbox has crossed a limit of what it may store; see `stored`."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to send, already recorded as sent. `key` is unique among a sandbox's notices."""

    kind: NoticeKind
    sandbox: Sandbox
    about: datetime
    key: str
    failure: Failure | None = None
    stored: Stored | None = None
    limit: StorageLimit | None = None


class Notices:
    """Finds the notices to send now. Every method raises `DependencyUnavailable`."""

    def __init__(
        self,
        pool: Pool,
        *,
        leads: Sequence[timedelta],
        limits: Mapping[str, StorageLimit] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`leads` are the times before an expiry at which the sandbox's owner gets a notice.

        `limits` are those of what a sandbox may store, by store.
        """
        self._pool = pool
        self._leads = sorted(leads)
        self._limits = limits or {}
        self._clock = clock
        self._unsure: dict[tuple[UUID, datetime], list[datetime]] = {}
        """By sandbox and `about`, the moments of records whose COMMIT was not answered."""

    async def take(self) -> AsyncIterator[Notice]:
        """Yield every notice to send now, each once and to one process.

        A notice is recorded as sent when the caller asks for it. The rest stays for later when the caller
        stops.
        """
        for kind in (self._expiring, self._gone, self._stuck, self._storage):
            async for notice in kind():
                yield notice

    async def give_back(self, notice: Notice) -> None:
        """Undo `take` for a notice that was certainly not sent, so that it is sent later."""
        async with connected(self._pool) as connection:
            await notices.withdraw(connection, notice.sandbox.id, notice.key, notice.about)

    async def _expiring(self) -> AsyncIterator[Notice]:
        if not self._leads:
            return
        async with connected(self._pool) as connection:
            candidates = await notices.expiring(connection, self._clock(), self._leads[-1])
        for candidate in candidates:
            sandbox = candidate.sandbox
            # Read the clock each time: sending the previous notice may have taken long.
            now = self._clock()
            due = leads_due(sandbox.expires_at, candidate.decided_at, now, self._leads)
            if due and await self._claim_expiry(sandbox, due, now):
                yield Notice(NoticeKind.EXPIRES, sandbox, sandbox.expires_at, _key(due[0]))

    async def _claim_expiry(self, sandbox: Sandbox, due: Sequence[timedelta], now: datetime) -> bool:
        async with self._recording(sandbox.id, sandbox.expires_at, now) as connection:
            current = await sandboxes.by_id(connection, sandbox.id, lock=True)
            # It was extended or destroyed, or has expired, since it was found.
            if current is None or not current.routes_at(now) or current.expires_at != sandbox.expires_at:
                return False
            kinds = [_key(lead) for lead in due]
            fresh = await self._claim(connection, sandbox.id, kinds, sandbox.expires_at, now)
        # After an outage several are due at once: send only the one nearest to the end.
        return kinds[0] in fresh

    async def _gone(self) -> AsyncIterator[Notice]:
        now = self._clock()
        kind = NoticeKind.GONE.value
        async with connected(self._pool) as connection:
            unsure = {sandbox_id for sandbox_id, _ in self._unsure}
            candidates = await notices.gone(connection, now - GONE_WITHIN, kind, unsure)
        for sandbox in candidates:
            about = sandbox.destroyed_at or now
            async with self._recording(sandbox.id, about, now) as connection:
                fresh = await self._claim(connection, sandbox.id, [kind], about, now)
            if fresh:
                yield Notice(NoticeKind.GONE, sandbox, about, kind)

    async def _stuck(self) -> AsyncIterator[Notice]:
        now = self._clock()
        kind = NoticeKind.STUCK.value
        async with connected(self._pool) as connection:
            failures = await cleanup.failures(connection, at_least=STUCK_AFTER)
        for failure in failures:
            # One notice for each sandbox, so the key uses a time that never changes.
            about = failure.sandbox.created_at
            async with self._recording(failure.sandbox.id, about, now) as connection:
                fresh = await self._claim(connection, failure.sandbox.id, [kind], about, now)
            if fresh:
                yield Notice(NoticeKind.STUCK, failure.sandbox, about, kind, failure)

    async def _storage(self) -> AsyncIterator[Notice]:
        now = self._clock()
        async with connected(self._pool) as connection:
            unsure = {sandbox_id for sandbox_id, _ in self._unsure}
            found = await storage.crossed(connection, NoticeKind.STORAGE.value, unsure)
        for sandbox in found:
            for stored in sandbox.storage:
                # A sandbox that gets from near to room again needs no message.
                if stored.since is None or (stored.level is Level.ROOM and stored.before is not Level.FULL):
                    continue
                key = f"{NoticeKind.STORAGE.value}:{stored.store}:{stored.level.value}"
                async with self._recording(sandbox.id, stored.since, now) as connection:
                    fresh = await self._claim(connection, sandbox.id, [key], stored.since, now)
                if fresh:
                    limit = self._limits.get(stored.store)
                    yield Notice(NoticeKind.STORAGE, sandbox, stored.since, key, stored=stored, limit=limit)

    @asynccontextmanager
    async def _recording(self, sandbox_id: UUID, about: datetime, at: datetime) -> AsyncIterator[Connection]:
        try:
            async with transaction(self._pool) as connection:
                yield connection
        except OutcomeUnknown:
            self._unsure.setdefault((sandbox_id, about), []).append(at)
            raise
        self._unsure.pop((sandbox_id, about), None)

    async def _claim(
        self, connection: Connection, sandbox_id: UUID, kinds: Sequence[str], about: datetime, at: datetime
    ) -> set[str]:
        fresh = await notices.claim(connection, sandbox_id, kinds, about, at)
        if earlier := self._unsure.get((sandbox_id, about)):
            fresh |= await notices.recorded(connection, sandbox_id, kinds, about, earlier)
        return fresh


def leads_due(
    expires_at: datetime, decided_at: datetime, now: datetime, leads: Sequence[timedelta]
) -> list[timedelta]:
    """Return the `leads` (ascending) that are due, the shortest first.

    Leads before `decided_at`, when the expiry was set, do not count: a new sandbox for half an hour needs no
    notice that it ends within an hour.
    """
    return [lead for lead in leads if decided_at < expires_at - lead <= now]


def _key(lead: timedelta) -> str:
    return f"{NoticeKind.EXPIRES.value}:{int(lead.total_seconds())}"
