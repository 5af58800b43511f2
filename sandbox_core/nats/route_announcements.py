"""Announces changed routes over NATS to gateway processes that PostgreSQL does not reach.

A process whose link to PostgreSQL is down asks Redis for every event. Redis may be away too, or may have been
away from whoever changed the route.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
import structlog

from sandbox_core.models import Route
from sandbox_core.strangers import UNREADABLE, Seldom
from sandbox_core.subjects import is_guild_id, is_sandbox_id

from .connection import NatsConnection
from .peer_subject import PeerSubject

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_log = structlog.get_logger("sandbox.nats")


class _Message(msgspec.Struct):
    as_of: float
    routes: dict[str, Route | None]


_decode = msgspec.json.Decoder(_Message).decode

OnRoutes = Callable[[Mapping[str, Route | None], float], None]
"""Told the committed routes of some guilds, and the moment they were read (the database's, in seconds)."""


def _is_route(told: tuple[str, Route | None]) -> bool:
    guild_id, route = told
    return is_guild_id(guild_id) and (route is None or is_sandbox_id(route.sandbox_id))


class RouteAnnouncements:
    """Tells and hears changed routes, on a subject that no stream keeps."""

    def __init__(self, connection: NatsConnection, subject: str) -> None:
        self._subject = PeerSubject(connection, subject)

    async def tell(self, routes: Mapping[str, Route | None], as_of: float) -> None:
        """Tell every gateway process that is connected; nothing happens without a connection."""
        await self._subject.tell(msgspec.json.encode(_Message(as_of, dict(routes))))

    async def hear(self, on_routes: OnRoutes) -> None:
        """Tell `on_routes` from now on, for as long as the connection exists."""

        unreadable = Seldom(_log, "route_announcement_unreadable")

        async def received(message: Msg) -> None:
            try:
                said = _decode(message.data)
            except UNREADABLE:
                unreadable.say(bytes=len(message.data))
                return
            if not all(map(_is_route, said.routes.items())):
                unreadable.say(bytes=len(message.data))
                return
            on_routes(said.routes, said.as_of)

        await self._subject.hear(received)
