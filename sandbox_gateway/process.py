"""The process: settings in, served until it is told to stop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.client_endpoint import ClientEndpoint
from sandbox_core.namespaces.client_traces import ClientTraces
from sandbox_core.postgres.switches import SwitchRequests
from sandbox_core.settings import TAKES, Settings, SettingsError

from .app import EndpointApp
from .following import FollowedTenants, Pace
from .guarding import Guarded, open_guard
from .guilds import GuildLists, GuildSnapshots
from .guilds.asking import Asking
from .identity import BotIdentity
from .metrics import ClientMetrics
from .sessions.beginning import Beginnings
from .sessions.conversation import Gateway
from .sessions.feeds import Feeds
from .sessions.limits import IDENTIFY_EVERY, IdentifyLimits
from .sessions.records import Records
from .sessions.registry import Sessions
from .sessions.service import Service, SessionTuning
from .sessions.session_ids import SessionIds
from .share import ShareLimits
from .sweeping import Sweeper

_log = structlog.get_logger("sandbox.client_gateway")

LEAVE_WITHIN = 3.0
"""Seconds that clients have to go to another process before they are cut off."""
_CLOSE_WITHIN = 0.25


class EndpointAddressError(Exception):
    """The endpoint can't listen on its address; the text names it."""


@dataclass(frozen=True, slots=True)
class EndpointTuning:
    """Times that tests change."""

    sessions: SessionTuning = field(default_factory=SessionTuning)
    pace: Pace = field(default_factory=Pace)
    identify_every: float = IDENTIFY_EVERY
    leave_within: float = LEAVE_WITHIN
    share: ShareLimits | None = None
    """None: the settings'."""


DEFAULT_TUNING = EndpointTuning()


OpenGuard = Callable[
    [Core, FollowedTenants, CollectorRegistry, str, ShareLimits], AbstractAsyncContextManager[Guarded]
]
"""See `guarding.open_guard`."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A process's endpoint, ready to be served."""

    tenants: FollowedTenants
    gateway: Gateway
    sessions: Sessions
    app: EndpointApp
    metrics: ClientMetrics


def require_endpoint(settings: Settings) -> ClientEndpoint:
    """Return where the clients connect to. Raises `SettingsError` when a setting for them is missing."""
    endpoint = settings.client_endpoint
    missing = {
        "DISCORD_TOKEN": settings.discord_token is None,
        "SANDBOX_CREDENTIALS_KEY": endpoint is None,
    }
    problems = [f"{name} is not set: it takes {TAKES[name]}." for name, lacks in missing.items() if lacks]
    if problems or endpoint is None:
        raise SettingsError(problems)
    return endpoint


@asynccontextmanager
async def open_endpoint(
    core: Core, tuning: EndpointTuning = DEFAULT_TUNING, *, guard: OpenGuard = open_guard
) -> AsyncIterator[Endpoint]:
    """Open the endpoint over the core's servers, any of which may be away.

    Raises `SettingsError`.
    """
    settings = core.settings
    place = require_endpoint(settings)
    key = place.key
    metrics, tenants = ClientMetrics(), FollowedTenants(core.pool, key, pace=tuning.pace)
    share = tuning.share or ShareLimits.of(settings)
    async with guard(core, tenants, metrics.registry, place.gateway_url, share) as guarded:
        asking, requests = Asking(guarded.rest), SwitchRequests(core.pool)
        identity = BotIdentity(asking)
        places = core.places

        async def switched(guild_ids: frozenset[str]) -> None:
            await requests.ask(guild_ids)

        service = Service(
            tenants=tenants,
            refresh=tenants.refresh,
            switched=switched,
            feeds=Feeds(places),
            records=Records(core.redis),
            ids=SessionIds(key),
            limits=IdentifyLimits(core.redis, every=tuning.identify_every),
            snapshots=GuildSnapshots(asking, identity.user_id, guarded.learn),
            lists=GuildLists(asking),
            bots=identity,
            gateway_url=place.gateway_url,
            metrics=metrics,
            seen=guarded.seen,
            commands=guarded.commands,
            reports=guarded.reports,
            tuning=tuning.sessions,
        )
        sessions = Sessions(service)
        tenants.on_change.append(sessions.tenant_changed)
        sweeper = Sweeper(ClientTraces(core.redis), lambda each: tenants.current(each) is not None)
        tenants.on_change.append(sweeper.tenant_changed)
        metrics.ready.set_function(lambda: not tenants.stale)
        gateway = Gateway(service, Beginnings(service, sessions))

        async def troubles() -> Mapping[str, str]:
            return {"PostgreSQL": "it has not said for too long who may connect"} if tenants.stale else {}

        await tenants.start()
        sessions.start()
        try:
            app = EndpointApp(gateway, guarded.handle, metrics, troubles)
            yield Endpoint(tenants, gateway, sessions, app, metrics)
        finally:
            await sessions.close()
            await sweeper.close()
            await tenants.close()


@asynccontextmanager
async def serve(
    endpoint: Endpoint,
    host: str,
    port: int,
    *,
    leave_within: float = LEAVE_WITHIN,
    tls: ssl.SSLContext | None = None,
    reuse_port: bool = False,
) -> AsyncIterator[str]:
    """Serve on `host` and `port`, and send the clients away at the end. The value is the address.

    With `reuse_port` another process may listen there, too: it gets whoever comes from the end on.
    Raises `EndpointAddressError`.
    """
    # Production's compressed bodies are passed on as they are; a sandbox's are refused.
    runner = web.AppRunner(
        endpoint.app.application(), access_log=None, shutdown_timeout=_CLOSE_WITHIN, auto_decompress=False
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls, reuse_port=reuse_port or None)
        try:
            await site.start()
        except OSError as error:
            raise EndpointAddressError(
                f"The gateway endpoint can't listen on {host}:{port} ({error.strerror}); "
                "SANDBOX_GATEWAY_HOST and SANDBOX_GATEWAY_PORT choose another address."
            ) from error
        address = runner.addresses[0]
        url = f"{'http' if tls is None else 'https'}://{address[0]}:{address[1]}"
        _log.info("client_gateway_listening", url=url)
        try:
            yield url
        finally:
            endpoint.app.leaving = True
            await endpoint.sessions.save_quietly(endpoint.sessions)
            if reuse_port:
                await site.stop()
            await endpoint.gateway.leave(leave_within)
            await endpoint.sessions.save_quietly(endpoint.sessions)
    finally:
        await runner.cleanup()


async def run_endpoint(
    settings: Settings,
    *,
    stop: asyncio.Event,
    tuning: EndpointTuning = DEFAULT_TUNING,
    tls: ssl.SSLContext | None = None,
    reuse_port: bool = False,
) -> None:
    """Run until `stop` is set. Raises `EndpointAddressError` or `SettingsError`."""
    require_endpoint(settings)
    opening = open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES)
    async with opening as core, open_endpoint(core, tuning) as endpoint:
        host, port = settings.sandbox_gateway_host, settings.sandbox_gateway_port
        serving = serve(
            endpoint, host, port, leave_within=tuning.leave_within, tls=tls, reuse_port=reuse_port
        )
        async with serving:
            await stop.wait()
