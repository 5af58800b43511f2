"""The sandboxes' NATS server as the bot uses it: three connections, and what works over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from . import tasks
from .addresses import NatsAddress
from .credentials import CredentialsKey
from .errors import DependencyUnavailable
from .namespaces.nats_lending import REST, SlotLending
from .namespaces.nats_logins import SlotLogins, logins_in
from .namespaces.nats_places import SlotPlaces
from .namespaces.nats_tenant import SlotNamespace
from .nats.connection import NatsConnection
from .nats.tenant.callout import CalloutResponder, LoginRates
from .nats.tenant.configuration import DEFAULT_LIMITS, TenantLimits
from .nats.tenant.keys import AUTH, BOT, SYSTEM, TenantKeys
from .nats.tenant.servers import TenantServers
from .nats.tenant.streams import SlotStreams
from .postgres.pool import Pool

_log = structlog.get_logger("sandbox.nats")

_APPLICATION = "discord-sandboxes"
_TRY_AGAIN_AFTER = 1.0
_DEFAULT_RATES = LoginRates()


@dataclass(frozen=True, slots=True)
class TenantNats:
    """What the bot has of the sandboxes' NATS server; `answers` is False in a process that lets nobody in."""

    pool: Pool
    bot: NatsConnection
    """It publishes events, and makes streams."""
    auth: NatsConnection
    """It hears who wants to log in."""
    system: NatsConnection
    """It ends connections."""
    servers: TenantServers
    streams: SlotStreams
    lending: SlotLending
    logins: SlotLogins
    namespace: SlotNamespace
    places: SlotPlaces
    """Where the bot publishes."""
    responder: CalloutResponder
    answers: bool
    _back: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, address: NatsAddress, keys: TenantKeys, *, within: float = 2.0) -> None:
        """Connect, and answer who wants to log in; `within` in seconds.

        Raises `DependencyUnavailable` when the server does not answer in time. A later call goes on.
        """
        users = {BOT: self.bot, SYSTEM: self.system} | ({AUTH: self.auth} if self.answers else {})
        await asyncio.gather(
            *(
                connection.connect(keys.address(address, user), name=_APPLICATION, within=within)
                for user, connection in users.items()
            )
        )
        if self.answers:
            await self.responder.start()

    def look(self) -> None:
        """Have `keep` see to it that everything is there."""
        self._back.set()

    async def keep(self, address: NatsAddress, keys: TenantKeys) -> None:
        """Connect at last where `begin` did not, and make streams again after each restart of the server."""
        while True:
            await self._back.wait()
            self._back.clear()
            try:
                await self.begin(address, keys)
                if self.answers and (restored := await self.lending.restore()):
                    _log.info("sandbox_streams_created", sandboxes=len(restored))
            except DependencyUnavailable as error:
                _log.debug("sandbox_streams_wait", reason=error.reason)
                self._back.set()
                await asyncio.sleep(_TRY_AGAIN_AFTER)


def _failed() -> None:
    _log.exception("sandbox_streams_failed")


async def _nothing(_step: str) -> None:
    return


async def _close(*connections: NatsConnection) -> None:
    # Each may wait for a server that hangs.
    await asyncio.gather(*(each.close() for each in connections))


@asynccontextmanager
async def open_tenant_nats(
    pool: Pool,
    address: NatsAddress,
    key: CredentialsKey,
    *,
    longest_life: timedelta,
    limits: TenantLimits = DEFAULT_LIMITS,
    worker_address: NatsAddress | None = None,
    answers: bool = True,
    connects: bool = True,
    rest: timedelta = REST,
    rates: LoginRates = _DEFAULT_RATES,
    faults: Callable[[str], Awaitable[None]] = _nothing,
) -> AsyncIterator[TenantNats]:
    """Use the server at `address`, which has no login in it: those are made from `key`.

    It may be away: requests then raise `DependencyUnavailable` until it is back. `pool` is the bot's own
    database; `worker_address` is the server's address as workers reach it, where that is another. `limits`
    are what the server's configuration was printed with. Without `connects` nothing may be asked of the
    server. `faults` is for tests.
    """
    keys = TenantKeys(key)
    async with AsyncExitStack() as stack:
        bot, auth, system = NatsConnection(), NatsConnection(), NatsConnection()
        stack.push_async_callback(_close, bot, auth, system)
        servers = TenantServers(system)
        streams = SlotStreams(bot, limits)
        lending = SlotLending(pool, servers, streams, rest=rest, faults=faults)
        seen = worker_address or address
        logins = SlotLogins(pool, servers, seen, key, lending, longest_life=longest_life)
        namespace = SlotNamespace(servers, streams, lending, logins, limits)
        responder = CalloutResponder(auth, keys, logins_in(pool), rates=rates)
        stack.push_async_callback(responder.close)
        places = SlotPlaces(pool, lending, streams)
        made = TenantNats(
            pool, bot, auth, system, servers, streams, lending, logins, namespace, places, responder, answers
        )
        if not connects:
            yield made
            return
        bot.on_reconnect.append(made.look)
        try:
            await made.begin(address, keys)
        except DependencyUnavailable as error:
            _log.warning("sandbox_nats_away", reason=error.reason)
        made.look()
        keep = tasks.repeat(lambda: made.keep(address, keys), failed=_failed, pause=_TRY_AGAIN_AFTER)
        keeping = asyncio.create_task(keep, name="sandbox-nats")
        stack.push_async_callback(tasks.end, keeping)
        yield made
