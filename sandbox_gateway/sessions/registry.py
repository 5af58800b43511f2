"""The sessions that are connected here: told of changes to their sandboxes, and saved for other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable

from ..tenants import Tenant
from .protocol import CloseCode, Closing
from .records import Held
from .service import Service
from .session import Departure, Session

_log = structlog.get_logger("sandbox.client_gateway")

_AGAIN_AFTER, _LEFT_WITHIN = 1.0, 1.0
REPLACED = Closing(CloseCode.RECONNECT, "the session goes on in another connection")


class Sessions:
    """All sessions of this process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._sessions: dict[UUID, dict[str, Session]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._saving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to save where sessions are."""
        save = tasks.repeat(self._save_after_a_while, failed=_failed, pause=_AGAIN_AFTER)
        self._saving = asyncio.create_task(save, name="client-sessions")

    async def close(self) -> None:
        """Save no more; `save_quietly` saves a last time."""
        await tasks.end(*self._leaving)
        if self._saving is not None:
            await tasks.end(self._saving)
            self._saving = None

    def __len__(self) -> int:
        return sum(map(len, self._sessions.values()))

    def __iter__(self) -> Iterator[Session]:
        return iter([each for found in self._sessions.values() for each in found.values()])

    def add(self, session: Session) -> None:
        """Tell the session from now on what changes. An older connection of the same session ends."""
        others = self._sessions.setdefault(session.identity.sandbox_id, {})
        earlier = others.get(session.identity.number)
        others[session.identity.number] = session
        if earlier is not None:
            earlier.end(REPLACED)
        self._service.metrics.sessions.set(len(self))

    async def leave(self, session: Session) -> None:
        """The session is not connected here any more: another process may know exactly where it is."""
        self._remove(session)
        ended = self._service.tenant(session.identity.sandbox_id) is None or session.over
        held = Held(session.identity, session.holder, None if ended else session.record())
        # Without it an older record has to do.
        with suppress(DependencyUnavailable, TimeoutError):
            async with asyncio.timeout(_LEFT_WITHIN):
                await self._service.records.leave(held)

    def _remove(self, session: Session) -> None:
        others = self._sessions.get(session.identity.sandbox_id, {})
        if others.get(session.identity.number) is session:
            del others[session.identity.number]
        if not others:
            self._sessions.pop(session.identity.sandbox_id, None)
        self._service.metrics.sessions.set(len(self))

    def tenant_changed(self, sandbox_id: UUID, tenant: Tenant | None) -> None:
        """See `following.Changed`."""
        leaving: dict[Session, frozenset[str]] = {}
        for session in tuple(self._sessions.get(sandbox_id, {}).values()):
            if guild_ids := frozenset(session.changed(tenant)):
                leaving[session] = guild_ids
        if leaving:
            self._begin(self._leave(leaving))

    def left(self, session: Session, guild_ids: Iterable[str]) -> None:
        """The sandbox has these servers no more, and the session's client was not told."""
        if gone := frozenset(guild_ids):
            self._begin(self._leave({session: gone}))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="client-guilds-left")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave(self, leaving: dict[Session, frozenset[str]]) -> None:
        """Find the last event of these servers, once nobody publishes more, and have it told behind that."""
        guild_ids = frozenset().union(*leaving.values())
        identity = next(iter(leaving)).identity
        while True:
            try:
                await self._service.switched(guild_ids)
                async with self._service.feeds.use(
                    identity.sandbox_id, credentials=identity.credentials
                ) as feed:
                    last = await feed.place.last()
                break
            except DependencyUnavailable as error:
                _log.info("client_guilds_left_later", reason=error.reason)
                await asyncio.sleep(_AGAIN_AFTER)
        for session, gone in leaving.items():
            for guild_id in gone:
                session.put(Departure(guild_id, last))

    async def save(self, sessions: Iterable[Session]) -> None:
        """Save where these sessions are, and end those that others have. Raises `DependencyUnavailable`."""
        by_holder = {each.holder: each for each in sessions}
        if by_holder:
            held = [each.held() for each in by_holder.values()]
            try:
                taken = await self._service.records.save(held)
            except DependencyUnavailable:
                for each in by_holder.values():
                    each.unsaved = True
                raise
            for held_by_others in taken:
                by_holder[held_by_others.holder].end(REPLACED)

    async def take(self, session: Session) -> None:
        """Have the session from now on, and no other connection. Raises `DependencyUnavailable`."""
        await self._service.records.take(session.held(always=True))

    async def save_quietly(self, sessions: Iterable[Session]) -> None:
        """Do the same; without Redis an older record, or the session's id alone, has to do."""
        try:
            await self.save(sessions)
        except DependencyUnavailable as error:
            _log.warning("client_sessions_not_saved", dependency=error.dependency, reason=error.reason)

    async def _save_after_a_while(self) -> None:
        await asyncio.sleep(self._service.tuning.save_every)
        await self.save_quietly(self)


def _failed() -> None:
    _log.exception("client_sessions_not_saved")
