"""Telling changed routes over NATS to gateway processes that PostgreSQL does not reach.

A process whose link to PostgreSQL is down asks Redis for every event, and Redis may be away too, or may
have been away from whoever changed the route. Whoever can publish events can hear this. It travels outside
both streams, as an ordinary message: one that is lost is not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
import nats.errors
import structlog

from sandbox_core.models import Route

from .connection import NatsConnection

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_log = structlog.get_logger("sandbox.nats")


class _Message(msgspec.Struct):
    as_of: float
    routes: dict[str, Route | None]


_decode = msgspec.json.Decoder(_Message).decode

OnFence = Callable[[Mapping[str, Route | None], float], None]
"""Told the committed routes of some guilds, and the moment they were read (the database's, in seconds)."""


class RouteFence:
    """Tells and hears changed routes, on a subject that no stream keeps."""

    def __init__(self, connection: NatsConnection, subject: str) -> None:
        self._connection = connection
        self._subject = subject

    async def tell(self, routes: Mapping[str, Route | None], as_of: float) -> None:
        """Tell every gateway process that is connected; nothing happens without a connection."""
        if not self._connection.connected:
            return
        try:
            await self._connection.client.publish(
                self._subject, msgspec.json.encode(_Message(as_of, dict(routes)))
            )
        except (nats.errors.Error, OSError) as error:
            # A second way to say it; what a process without PostgreSQL then has is Redis.
            _log.debug("fence_not_told", error=type(error).__name__)

    async def hear(self, on_fence: OnFence) -> None:
        """Tell `on_fence` from now on, for as long as the connection exists."""

        async def received(message: Msg) -> None:
            try:
                said = _decode(message.data)
            except msgspec.MsgspecError:
                _log.warning("fence_unreadable", bytes=len(message.data))
                return
            on_fence(said.routes, said.as_of)

        await self._connection.client.subscribe(self._subject, cb=received)
