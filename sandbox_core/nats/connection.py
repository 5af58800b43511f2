"""One NATS connection that never gives up reconnecting, and says when it comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import Client
from pydantic import SecretStr

from sandbox_core.errors import DependencyUnavailable

_log = structlog.get_logger("sandbox.nats")
_FOREVER = -1


class NatsConnection:
    """Holds the client and tells its listeners about disconnects and reconnects.

    Listeners are plain functions, called on the event loop; they must not block.
    """

    def __init__(self) -> None:
        self.client = Client()
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """True while the connection to a server stands."""
        return bool(self.client.is_connected)

    async def connect(self, url: SecretStr, *, name: str, within: float = 2.0) -> None:
        """Connect to one of the comma-separated servers in `url`; `within` in seconds.

        Raises `DependencyUnavailable` when none answers; the caller may call again.
        """
        servers = [part.strip() for part in url.get_secret_value().split(",") if part.strip()]

        async def reconnected() -> None:
            _log.info("nats_reconnected", server=self.server)
            for listener in self.on_reconnect:
                listener()

        async def disconnected() -> None:
            if self.client.is_closed or self.client.is_draining:
                return
            _log.warning("nats_disconnected")
            for listener in self.on_disconnect:
                listener()

        async def failed(error: Exception) -> None:
            # nats-py reports every failed reconnect attempt here; disconnects are logged above.
            _log.debug("nats_error", error=type(error).__name__)

        try:
            await asyncio.wait_for(
                self.client.connect(
                    servers,
                    name=name,
                    error_cb=failed,
                    reconnected_cb=reconnected,
                    disconnected_cb=disconnected,
                    connect_timeout=max(1, int(within)),
                    max_reconnect_attempts=_FOREVER,
                    reconnect_time_wait=1,
                    ping_interval=5,
                    max_outstanding_pings=2,
                ),
                within + 1,
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            # A client that failed to connect keeps its state; the next try starts from a new one.
            await self._discard()
            raise DependencyUnavailable("NATS", _reason(error)) from error

    @property
    def server(self) -> str:
        """Host and port of the server in use, or "" while there is none; never with credentials."""
        url = self.client.connected_url
        if url is None:
            return ""
        parts = urlsplit(url.geturl())
        return f"{parts.hostname}:{parts.port}"

    async def close(self) -> None:
        """Flush what was published and close; harmless when never connected."""
        if self.client.is_closed:
            return
        if self.client.is_connected:
            try:
                await self.client.flush(timeout=2)
            except (nats.errors.Error, OSError, TimeoutError):
                _log.warning("nats_close_without_flush")
        await self.client.close()

    async def _discard(self) -> None:
        old, self.client = self.client, Client()
        try:
            await old.close()
        except (nats.errors.Error, OSError) as error:
            _log.debug("nats_discard", error=type(error).__name__)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError | nats.errors.TimeoutError):
        return "no answer in time"
    if isinstance(error, nats.errors.NoServersError | OSError):
        return "no server accepts connections"
    return type(error).__name__
