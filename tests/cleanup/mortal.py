"""A process to be killed, with what to do as JSON in its argument; `tests/warm.py` starts it.

At the fault point it is given it kills itself with SIGKILL; without one it creates and destroys until
somebody else kills it. It says on stdout what it has begun, one line each.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import nats

from sandbox_core.cleanup import CleanupProvider
from sandbox_core.manager import ManagerLimits, SandboxManager
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.namespaces import NatsNamespace, RedisNamespace, SchemaProvisioner
from sandbox_core.namespaces.client_traces import ClientTraces
from sandbox_core.postgres import create_pool
from sandbox_core.postgres.routes import RouteRows
from sandbox_core.redis.client import create_client
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.route_provider import RouteProvider
from sandbox_core.subjects import redis_prefix, sandbox_subject
from sandbox_core.templates import Templates
from tests.streams import streams_at

ALICE = Actor("200000000000000001", "Alice")
SESSIONS = "mortal"
"""The application's name of its PostgreSQL sessions."""


def main() -> None:
    """Do what the first argument says."""
    asyncio.run(_live(json.loads(sys.argv[1])))


async def _live(task: dict[str, Any]) -> None:
    async def faults(point: str) -> None:
        if point == task.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    pool = await create_pool(task["database_url"], max_size=12, application_name=SESSIONS)
    redis = create_client(task["redis_url"])
    js = (await nats.connect(task["nats_url"])).jetstream(timeout=2)
    schemas, keys = SchemaProvisioner(pool), RedisNamespace(redis, traces=ClientTraces(redis))
    namespaces = (schemas, keys, NatsNamespace(streams_at(js)))
    routes = RouteProvider(
        RouteRows(pool), RouteCache(redis, timedelta(minutes=10)), RoutingMetrics(), follower=None
    )
    templates = Templates(Path(task["templates"]) if "templates" in task else None)
    manager = SandboxManager(
        pool=pool,
        namespaces=namespaces,
        routes=routes,
        limits=ManagerLimits(default_ttl=timedelta(hours=1), max_ttl=timedelta(hours=2), max_per_owner=1000),
        faults=faults,
        templates=templates,
    )
    cleanup = CleanupProvider(
        pool=pool, namespaces=namespaces, keys=[keys], routes=routes, faults=faults, templates=templates
    )

    async def live(worker: int, guild: str) -> None:
        access = GuildAccess(guild, bot_is_member=True, caller_manages=True)
        while True:
            made = (await manager.create(ALICE, name=f"box-{worker}", guilds=[access])).sandbox
            await redis.set(redis_prefix(made.id) + "x", "x")
            await js.publish(sandbox_subject(made.id, "X"), b"{}")
            print(made.id, flush=True)
            await manager.destroy(ALICE, str(made.id))

    match task["do"]:
        case "create":
            access = [GuildAccess(guild, True, True) for guild in task["guilds"]]
            await manager.create(ALICE, name="mine", guilds=access)
        case "destroy":
            await manager.destroy(ALICE, "mine")
        case "reset":
            await manager.reset(ALICE, "mine")
        case "finish":
            await cleanup.finish_resets()
        case "expire":
            await cleanup.cleanup_expired()
        case "load":
            await asyncio.gather(*(live(number, guild) for number, guild in enumerate(task["guilds"])))
    print("survived", flush=True)


if __name__ == "__main__":
    main()
