"""One NATS connection that never gives up, and says when it comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nats.errors
import structlog
from pydantic import SecretStr

from sandbox_core import tasks
from sandbox_core.addresses import NatsAddress
from sandbox_core.errors import DependencyUnavailable, LoginRefused

from .errors import how_it_ended, unavailable
from .lasting import LastingClient, words_of
from .login import refusal

_log = structlog.get_logger("sandbox.nats")

_NOT_CONNECTED = "no server accepts the connection"
_FOREVER = -1
_FLUSH_WITHIN = 1
_LOOK_EVERY = 1.0


class NatsConnection:
    """Holds the client and tells its listeners about disconnects and reconnects.

    Listeners are plain functions, called on the event loop; they must not block. `client` is the same one
    from the start to `close`: what is made of it, such as subscriptions, outlasts every connection.
    """

    def __init__(self) -> None:
        self.client = LastingClient(self._meaning)
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []
        self.on_error: list[Callable[[Exception], None]] = []
        """Told what the server objects to, such as a subject without permission; and failed attempts."""
        self.refused: LoginRefused | None = None
        """Why no server lets this process in; None while none says so."""
        self.denied: LoginRefused | None = None
        """What a server last forbade after the login."""
        self._told: set[str] = set()
        """The refusals of this connection that were logged."""
        self._where = ""
        self._said = ""
        """Why a server ended the connection, or does not take a new one; "" when none has said so."""
        self._attempt = ""
        """How the last attempt to connect ended; "" when it is not known."""
        self._connecting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """True while the connection to a server stands."""
        return bool(self.client.is_connected)

    @property
    def server(self) -> str:
        """Host and port of the server that is connected, or ""."""
        url = self.client.connected_url
        return "" if url is None else f"{url.hostname}:{url.port}"

    @property
    def trouble(self) -> DependencyUnavailable:
        """What to raise while the connection does not stand."""
        if self.refused is not None:
            return self.refused
        said = f"{_NOT_CONNECTED} ({self._said})" if self._said else _NOT_CONNECTED
        return DependencyUnavailable("NATS", self._attempt or said, self._where)

    def _meaning(self, error: Exception, subject: str) -> DependencyUnavailable | None:
        """What the error of a request means."""
        if not self.connected:
            return self.trouble
        # A request without permission gets no answer, only this.
        denied = "" if self.denied is None else self.denied.problem.lower()
        if f" {subject.lower()} " in denied or " subscribe to _inbox." in denied:
            return self.denied
        away = unavailable(error)
        return None if away is None else away.located(self.server)

    async def connect(
        self, address: NatsAddress | SecretStr | str, *, name: str, within: float = 2.0
    ) -> None:
        """Connect to one of the address's servers; `within` in seconds.

        Raises `DependencyUnavailable` when no server answered in time, and `LoginRefused` when one did and
        said no. The attempts go on all the same: a later call waits for them again.
        """
        if self._connecting is None:
            address = NatsAddress.of(address)
            self._where = address.where
            self._connecting = asyncio.get_running_loop().create_task(
                self._connect(address, name), name="nats-connect"
            )
        try:
            await asyncio.wait_for(asyncio.shield(self._connecting), within)
        except TimeoutError:
            self._attempt = self._attempt or "no answer in time"
            raise self.trouble from None

    async def stands(self) -> None:
        """Return when the first connection stood; `connect` must have been called."""
        if self._connecting is not None:
            await asyncio.shield(self._connecting)

    async def _connect(self, address: NatsAddress, name: str) -> None:
        async def reconnected() -> None:
            self._stands()
            _log.info("nats_reconnected", server=self.server)
            for listener in self.on_reconnect:
                listener()

        async def disconnected() -> None:
            if self.client.is_closed or self.client.is_draining:
                return
            self._note_end(address)
            for listener in self.on_disconnect:
                listener()

        async def failed(error: Exception) -> None:
            refused = refusal(error, address)
            if not self.connected:
                self._note_words(words_of(error), log=refused is None)
            self._judge(refused, error, alone=len(address.endpoints) == 1)
            self._attempt = how_it_ended(error)
            # Every failed attempt comes here, each second while the server is away; the disconnect
            # itself is logged above, and readiness names it all along.
            _log.debug("nats_error", error=type(error).__name__)
            for listener in self.on_error:
                listener(error)
            transport: Any = self.client._transport
            if transport and not self.client.is_connected:
                # nats-py 2.16 opens its next connection without closing one that failed after it stood.
                transport.close()

        await self.client.connect(
            **address.arguments(),
            name=name,
            error_cb=failed,
            reconnected_cb=reconnected,
            disconnected_cb=disconnected,
            connect_timeout=2,
            max_reconnect_attempts=_FOREVER,
            reconnect_time_wait=1,
            ping_interval=5,
            max_outstanding_pings=2,
            # Nothing is buffered while disconnected: a request that was answered "unavailable" must
            # not be carried out later, and events are kept by their publisher.
            pending_size=0,
        )
        self._stands()
        watch = tasks.repeat(self._watch, failed=_watch_failed, pause=_LOOK_EVERY)
        self._watching = asyncio.create_task(watch, name="nats-watch")

    async def _watch(self) -> None:
        """Keep the client from resting without a working connection: one look, after a while."""
        await asyncio.sleep(_LOOK_EVERY)
        await self.client.go_on()

    def _stands(self) -> None:
        """Forget why there was no connection: there is one."""
        self.refused, self._attempt, self._said = None, "", ""
        self._told.clear()

    def _note_end(self, address: NatsAddress) -> None:
        """Say once that the connection is lost, and for each other reason that a server gives meanwhile."""
        ended_by = self.client.ended_by
        if ended_by is None:
            _log.warning("nats_disconnected", dependency="NATS", server=self._where)
            return
        # The driver would stay away for good now.
        self.refused = refusal(ended_by, address)
        self._note_words(words_of(ended_by), log=True)

    def _note_words(self, said: str, *, log: bool) -> None:
        """Keep why a server ends a connection or takes none; `log` it once until the next one."""
        self._said = said
        if log and said and said not in self._told:
            self._told.add(said)
            _log.warning("nats_closed", dependency="NATS", server=self._where, reason=said)

    def _judge(self, refused: LoginRefused | None, error: Exception, *, alone: bool) -> None:
        """Keep what the error says of the login; each reason is logged once until the next connection."""
        if refused is None:
            if isinstance(error, OSError) and alone:
                # It is away now: whether it would still refuse is not known.
                self.refused = None
            return
        if self.connected:
            self.denied = refused
        else:
            self.refused = refused
        if refused.reason not in self._told:
            self._told.add(refused.reason)
            permission = refused.refused == "permission"
            event = "nats_permission_refused" if permission else "nats_login_refused"
            _log.warning(event, dependency="NATS", reason=refused.reason)

    async def close(self) -> None:
        """Flush what was published and close; harmless when never connected."""
        if self._connecting is None:
            return
        # nats-py loses a cancellation that lands in an attempt just as it fails, and tries on.
        await tasks.end(self._connecting)
        if self._watching is not None:
            await tasks.end(self._watching)
        if self.client.is_closed:
            return
        self.client.leave()
        if self.client.is_connected:
            try:
                await self.client.flush(timeout=_FLUSH_WITHIN)
            except (nats.errors.Error, OSError, TimeoutError):
                _log.warning("nats_close_without_flush")
        if not self.client.is_connected:
            # nats-py 2.16 writes what is pending to the lost connection, fails on it, and then leaves its
            # tasks running.
            self.client._pending = []
            self.client._pending_data_size = 0
        await self.client.close()

    def abort(self) -> None:
        """Drop the connection at once, with whatever was not sent; after a `close` that took too long."""
        self.client.abort()


def _watch_failed() -> None:
    _log.exception("nats_watch_failed", dependency="NATS")
