"""What health asks of the servers and the routes of this process, at the start and later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from .dependencies import SANDBOX_NATS, Question
from .health import BacklogOf, HealthChecker, LostGuilds, RoutingCheck, ServerCheck, SystemCheck
from .models import Sandbox
from .namespaces import Namespace
from .nats.connection import NatsConnection
from .postgres.orphans import lost_mappings
from .postgres.pool import Pool, connected
from .route_provider import RouteProvider
from .settings import Settings


def checker_at_start(
    settings: Settings, asked: Mapping[str, Question], nats: NatsConnection
) -> HealthChecker:
    """Check the servers alone, also before NATS has ever answered."""

    async def jetstream() -> None:
        # A client that was never connected accepts requests as if it were connected.
        if not nats.connected:
            raise nats.trouble
        await asked["NATS"]()

    return HealthChecker((), system=_servers(settings, {**asked, "NATS": jetstream}, lambda: ""))


def checker(
    settings: Settings,
    namespaces: Sequence[Namespace],
    asked: Mapping[str, Question],
    routes: RouteProvider,
    pool: Pool,
    *,
    hindrance: Callable[[], str] | None,
    follows_routes: bool,
    tenants: Sequence[SystemCheck],
    backlog: BacklogOf,
) -> HealthChecker:
    """Check all parts of sandboxes, the servers, and the routes of a process that follows them.

    `hindrance` tells why production's events can't be published, where they are; `tenants` are the servers
    that only sandboxes need, `backlog` says who in a sandbox is how far behind.
    """
    routing = RoutingCheck(routes, lost=_lost_guilds(pool))

    system = [*_servers(settings, asked, hindrance or (lambda: "")), *tenants]
    if follows_routes:
        system.append(routing)
    return HealthChecker(
        (*namespaces, routing), system=system, place=partial(_place, settings), backlog=backlog
    )


def _place(settings: Settings, sandbox: Sandbox, store: str) -> str:
    # One that was made with credentials keeps them, whatever the settings say now.
    own = sandbox.generation > 0
    places = {
        "PostgreSQL": ((own and settings.tenant_database) or settings.database).where,
        "Redis": ((own and settings.tenant_redis) or settings.redis).where,
        "NATS": settings.sandbox_nats.where,
    }
    return places.get(store, "")


def _servers(
    settings: Settings, asked: Mapping[str, Question], hindrance: Callable[[], str]
) -> list[SystemCheck]:
    checks: list[SystemCheck] = [
        ServerCheck("PostgreSQL", asked["PostgreSQL"], where=settings.database.where),
        ServerCheck("Redis", asked["Redis"], where=settings.redis.where),
        ServerCheck("NATS", asked["NATS"], where=settings.nats.where, lacks=hindrance),
    ]
    if SANDBOX_NATS in asked:
        checks.append(ServerCheck(SANDBOX_NATS, asked[SANDBOX_NATS], where=settings.sandbox_nats.where))
    return checks


def _lost_guilds(pool: Pool) -> LostGuilds:
    async def lost(sandbox: Sandbox) -> list[str]:
        async with connected(pool) as connection:
            return [guild_id for guild_id, _ in await lost_mappings(connection, sandbox.id)]

    return lost
