"""Causes faults of the gateway, at the places where real faults happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from discord_sim.connection import Connection
from discord_sim.gateway import (
    FATAL_CLOSES,
    HEARTBEAT,
    INVALID_SESSION,
    RECONNECT,
    SESSION_ENDING_CLOSES,
    Gateway,
)


class Faults:
    """Each call acts at once on the connections of one shard, or of all shards.

    The returned futures complete when these connections have ended; waiting for them is optional.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._watchers: set[asyncio.Task[None]] = set()

    def reconnect(self, shard: int | None = None) -> asyncio.Future[int]:
        """Op 7: ask the clients to reconnect and resume."""
        return self._strike(shard, lambda c: c.send_op(RECONNECT))

    def invalidate(self, *, resumable: bool, shard: int | None = None) -> asyncio.Future[int]:
        """Op 9: the session is invalid; `resumable` allows the client to try RESUME."""

        def strike(connection: Connection) -> None:
            connection.send_op(INVALID_SESSION, resumable)
            if not resumable:
                self._kill_session(connection)

        return self._strike(shard, strike)

    def close(self, code: int, shard: int | None = None) -> asyncio.Future[int]:
        """Close with a code. Fatal codes, 1000, 1001, 4007 and 4009 also end the session."""

        def strike(connection: Connection) -> None:
            if code in SESSION_ENDING_CLOSES | FATAL_CLOSES:
                self._kill_session(connection)
            connection.close_after_queue(code)

        return self._strike(shard, strike)

    def drop(self, shard: int | None = None) -> asyncio.Future[int]:
        """Reset TCP without a close frame; clients see code 1006."""
        return self._strike(shard, Connection.abort)

    def garble(self, shard: int | None = None) -> asyncio.Future[int]:
        """Corrupt the compressed stream: the client can't read any later message of the connection."""
        return self._strike(shard, Connection.garble)

    def half_open(self, on: bool = True, shard: int | None = None) -> None:
        """Simulate half-open connections: TCP stays up, but they send and answer nothing."""
        for connection in self._struck(shard):
            connection.mute(on)

    def freeze_acks(self, on: bool = True, shard: int | None = None) -> None:
        """Stop (or resume) acknowledging heartbeats; without a shard also on later connections."""
        if shard is None:
            self._gateway.rules.freeze_acks = on
        for connection in self._struck(shard):
            connection.ack_frozen = on

    def request_heartbeat(self, shard: int | None = None) -> None:
        """Op 1: ask the clients for a heartbeat at once."""
        for connection in self._struck(shard):
            connection.send_op(HEARTBEAT)

    def refuse_resume_url(self, on: bool = True, *, how: str = "drop") -> None:
        """Break the resume URL; `how` is "drop", "hang" or "garble" (see `GatewayRules`)."""
        if how not in ("drop", "hang", "garble"):
            raise ValueError(f"how must be 'drop', 'hang' or 'garble', not {how!r}")
        self._gateway.rules.refuse_resume_url = how if on else None
        self._gateway.changed.notify()

    def _struck(self, shard: int | None) -> list[Connection]:
        return [c for c in self._gateway.connections if shard in (None, c.shard)]

    def _strike(self, shard: int | None, strike: Callable[[Connection], None]) -> asyncio.Future[int]:
        struck = self._struck(shard)
        for connection in struck:
            strike(connection)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        watcher = asyncio.create_task(self._watch(struck, done))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return done

    async def _watch(self, struck: list[Connection], done: asyncio.Future[int]) -> None:
        def ended() -> bool:
            return all(c not in self._gateway.connections for c in struck)

        try:
            await self._gateway.changed.wait_for(ended, timeout=30.0)
        finally:
            if not done.done():
                done.set_result(len(struck))

    def _kill_session(self, connection: Connection) -> None:
        hub = self._gateway.hub
        for session in hub.sessions:
            if session.connection is connection:
                hub.kill(session)

    async def stop(self) -> None:
        """End the tasks that wait for connections to end."""
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
