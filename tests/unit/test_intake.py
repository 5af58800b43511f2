"""How long this process has seen a guild's events, which tells a quiet guild from an unknown one."""

from __future__ import annotations

import math
from collections.abc import Collection

from sandbox_core.event_router import EventRouter, GatewayIntake
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.routing import RouteTable, TrustedTable

GUILD = "613425648685547541"


class NoRoutes:
    """All is production."""

    trusted = TrustedTable(RouteTable(), math.inf)

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        return RouteTable()


class Silent:
    """A publisher that is given nothing here."""

    def in_flight(self) -> list[object]:
        return []


def test_how_long_a_guilds_events_have_been_watched() -> None:
    now = 100.0
    router = EventRouter(NoRoutes(), RoutingMetrics(), max_pending=10)
    router.attach(Silent())  # type: ignore[arg-type]
    intake = GatewayIntake(router, monotonic=lambda: now)
    shard_id = (int(GUILD) >> 22) % 2
    assert intake.received_for(GUILD, 2) == 0
    intake.adopt("other", 1 - shard_id, 0)
    assert intake.received_for(GUILD, 2) == 0
    intake.adopt("session", shard_id, 0)
    now = 170.0
    # The same session once more, after a lost connection.
    intake.adopt("session", shard_id, 0)
    assert intake.received_for(GUILD, 2) == 70
    intake.take(intake.read(_READY % shard_id), shard_id)  # type: ignore[arg-type]
    now = 175.0
    assert intake.received_for(GUILD, 2) == 5
    intake.forget(shard_id)
    assert intake.received_for(GUILD, 2) == 0
    intake.adopt("session", shard_id, 5)
    now = 176.0
    assert intake.received_for(GUILD, 2) == 1
    intake.lose(shard_id)
    assert intake.received_for(GUILD, 2) == 0


_READY = b'{"t":"READY","s":1,"op":0,"d":{"session_id":"a new one","shard":[%d,2]}}'
