"""What the consumers and the ordinary bots of a sandbox have still to get: its true backlog.

What is stored says nothing about that: it stays until it is too old, whoever has read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.models import Sandbox
from sandbox_core.nats.consumers import Consumer, Consumers, consumers_of
from sandbox_core.nats.errors import DEPENDENCY
from sandbox_core.nats.stream_place import StreamPlace

from .client_traces import KeptSession
from .stream_places import StreamPlaces

_WITHIN = 2.5
"""Less than the time of a whole check of health: one server that is silent must not hide the others."""

T = TypeVar("T")
KeptSessions = Callable[[UUID], Awaitable[list[KeptSession]]]


@dataclass(frozen=True, slots=True)
class SessionBacklog:
    """An ordinary bot's session, and how far it is behind."""

    session: KeptSession
    lag: int | None
    """Events that it has still to get, of all types; None when that is not known."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Who is how far behind. None is what could not be read: `unread` says why."""

    consumers: Consumers | None = None
    sessions: tuple[SessionBacklog, ...] | None = None
    """None also where there are no ordinary bots."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """By the name of the field; a sentence each."""

    @property
    def connected(self) -> int | None:
        """How many ordinary bots are connected; None when that is not known."""
        return None if self.sessions is None else sum(each.session.connected for each in self.sessions)


class Backlogs:
    """Reads them. A server that is away is a result."""

    def __init__(
        self, places: StreamPlaces, sessions: KeptSessions | None = None, *, within: float = _WITHIN
    ) -> None:
        """Without `sessions` there are no ordinary bots. `within` is the limit in seconds for each server."""
        self._places = places
        self._sessions = sessions
        self._within = within

    async def of(self, sandbox: Sandbox) -> Backlog:
        """Return the sandbox's backlog now."""
        unread: dict[str, str] = {}

        async def asked(what: str, server: str, question: Callable[[], Awaitable[T]]) -> T | None:
            try:
                async with asyncio.timeout(self._within):
                    return await question()
            except TimeoutError:
                late = DependencyUnavailable(server, f"no answer within {self._within:g} s")
                unread[what] = explain(late).sentence
            except SandboxError as error:
                unread[what] = explain(error).sentence
            return None

        consumers, sessions = await asyncio.gather(
            asked("consumers", DEPENDENCY, lambda: self._consumers(sandbox)),
            asked("sessions", "Redis", lambda: self._kept(sandbox)),
        )
        behind: tuple[SessionBacklog, ...] | None = None if sessions is None else ()
        if sessions:
            behind = await asked("lags", DEPENDENCY, lambda: self._lags(sandbox, sessions))
            if behind is None:
                behind = tuple(SessionBacklog(each, None) for each in sessions)
        return Backlog(consumers, behind, unread)

    async def _place(self, sandbox: Sandbox) -> StreamPlace:
        return await self._places.of(sandbox.id, credentials=sandbox.generation)

    async def _consumers(self, sandbox: Sandbox) -> Consumers:
        place = await self._place(sandbox)
        found = await consumers_of(place.js, place.stream)
        # Workers' names of it begin so.
        begin = f"{sandbox.id}-"
        known = tuple(_renamed(each, each.name.removeprefix(begin)) for each in found.known)
        return Consumers(known, tuple(each.removeprefix(begin) for each in found.unknown), found.unread)

    async def _kept(self, sandbox: Sandbox) -> list[KeptSession] | None:
        return None if self._sessions is None else await self._sessions(sandbox.id)

    async def _lags(self, sandbox: Sandbox, sessions: list[KeptSession]) -> tuple[SessionBacklog, ...]:
        place = await self._place(sandbox)
        # The last event is not behind the stream's end, where dead letters may be.
        last = await place.last()
        state = await place.state()

        def lag(position: int | None) -> int | None:
            if position is None or position > state.last:
                # The stream was made anew: the session can't go on.
                return None
            return max(0, last - max(position, state.first - 1))

        return tuple(SessionBacklog(each, lag(each.position)) for each in sessions)


def _renamed(consumer: Consumer, name: str) -> Consumer:
    return Consumer(name, consumer.durable, consumer.lag, consumer.unacknowledged, consumer.redelivered)
