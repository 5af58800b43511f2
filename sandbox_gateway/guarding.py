"""Puts the REST guard together, and lets the gateway ask Discord through the same share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from aiohttp import web
from prometheus_client import CollectorRegistry

from sandbox_core.bootstrap import Core
from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.guild_commands import GuildCommands

from .app import Handler
from .calls import recording
from .commands.keeping import CommandKeeper
from .commands.production import ProductionCommands
from .commands.rest import ApplicationId, UpstreamCommands
from .commands.service import SandboxCommands
from .following import FollowedTenants
from .guard.metrics import GuardMetrics
from .guard.passing import Passing
from .guard.places import Places
from .guard.seen import RedisSeen
from .guard.service import Guard
from .guilds.asking import Rest
from .metrics import UpstreamMetrics
from .sessions.service import Commands, NothingKept, Seen, SessionReports, Unchanged
from .share import Share, ShareLimits, ShareUsed
from .upstream import Upstream, UpstreamAnswer, UpstreamAway, open_upstream

_TOO_SOON = 429
_PATIENCE = 60.0
"""Seconds for which the gateway waits for its turn."""


def _nothing_learnt(guild_id: str, channel_ids: Iterable[str]) -> None:
    """Nobody asks whose channels they are."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the gateway needs of the guard, and what answers under `/api`."""

    rest: Rest
    handle: Handler
    seen: Seen = field(default_factory=NothingKept)
    commands: Commands = field(default_factory=Unchanged)
    reports: SessionReports = field(default_factory=NothingKept)
    learn: Callable[[str, Iterable[str]], None] = _nothing_learnt
    """Told which channels Discord says a server has."""


class PatientRest:
    """`Rest` over the guard's client: waits for its turn, for a client waits for it, too."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def request(self, method: str, path: str, *, sandbox_id: UUID, query: str = "") -> UpstreamAnswer:
        """See `Rest`."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                answer = await self._upstream.request(method, path, sandbox_id=sandbox_id, query=query)
                if answer.status != _TOO_SOON:
                    return answer
                wait, why = answer.retry_after, "it limits this route"
            except ShareUsed as used:
                wait, why = used.retry_after, f"the sandboxes' share is used up: {used}"
            except UpstreamAway as away:
                raise DependencyUnavailable("Discord", f"it does not answer ({away})") from None
            if time.monotonic() + wait > end:
                raise DependencyUnavailable("Discord", why)
            await asyncio.sleep(wait)


@asynccontextmanager
async def open_guard(
    core: Core,
    tenants: FollowedTenants,
    registry: CollectorRegistry,
    gateway_url: str,
    limits: ShareLimits,
) -> AsyncIterator[Guarded]:
    """Open the guard over the core's servers. Raises `ValueError` without the bot's token."""

    def lives(sandbox_id: UUID) -> bool:
        # What production did is kept also when its token has just been revoked.
        return sandbox_id == PRODUCTION or tenants.current(sandbox_id) is not None

    async with (
        open_upstream(core.settings, Share(core.redis, limits), UpstreamMetrics(registry)) as upstream,
        recording(core.redis, lives) as calls,
    ):
        places, seen = Places(upstream), RedisSeen(core.redis)
        patient = UpstreamCommands(upstream, ApplicationId(upstream), patience=_PATIENCE)
        keeper = CommandKeeper(GuildCommands(core.pool, patient))
        commands = SandboxCommands(core.pool, upstream, keeper)
        metrics = GuardMetrics(registry)
        metrics.unwritten.set_function(lambda: keeper.failing)
        guard = Guard(
            tenants=tenants,
            upstream=upstream,
            seen=seen,
            places=places,
            commands=commands,
            calls=calls,
            metrics=metrics,
            gateway_url=lambda: gateway_url,
            passing=Passing(upstream, ProductionCommands(core.pool, upstream)),
        )

        async def handle(request: web.Request) -> web.StreamResponse:
            return await guard.serve(request)

        tenants.on_change.append(keeper.tenant_changed)
        keeper.start()
        try:
            yield Guarded(PatientRest(upstream), handle, seen, commands, calls, places.learn)
        finally:
            await keeper.close()
