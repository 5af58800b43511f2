"""The ops endpoint: `/healthz`, `/readyz`, `/metrics` and `/version` over HTTP."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from .readiness import Readiness

_CLOSE_WITHIN = 0.25


class OpsAddressError(Exception):
    """The server can't listen on its address; the text names it."""


class OpsServer:
    """Answers while the process starts, works and stops, also when other servers are away.

    `versions` is the answer of `/version`, by name.
    """

    def __init__(
        self, readiness: Readiness, registry: CollectorRegistry, versions: Mapping[str, str]
    ) -> None:
        self._readiness = readiness
        self._registry = registry
        self._versions = versions
        self.url = ""
        """The URL, after the start."""

    def application(self) -> web.Application:
        """Return the application with the routes."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/version", self._version),
            ]
        )
        return application

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        report = await self._readiness.report()
        answer: dict[str, object] = {"status": "ready", "latencies_ms": report.latencies_ms}
        if report.standing_by or report.waits_for:
            answer |= {"gateway": report.waits_for or "standing by: other processes have all the shards"}
        if report.isolation:
            answer |= {"isolation": report.isolation}
        if report.degraded:
            answer |= {"status": "degraded", "degraded": report.degraded}
        if not report.ready:
            answer |= {"status": "not ready", "missing": report.missing}
        return web.json_response(answer, status=200 if report.ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # The content type has parameters, which aiohttp accepts only in a whole header.
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": "discord-server-sandboxes",
                "python": platform.python_version(),
                **self._versions,
            }
        )


@asynccontextmanager
async def ops_server(
    host: str, port: int, readiness: Readiness, registry: CollectorRegistry, versions: Mapping[str, str]
) -> AsyncIterator[OpsServer]:
    """Serve on `host` and `port` (0: a free one). Raises `OpsAddressError` when it can't listen there."""
    server = OpsServer(readiness, registry, versions)
    # Do not wait for open requests: aiohttp would wait for a minute.
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=_CLOSE_WITHIN)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise OpsAddressError(
                f"The ops endpoint can't listen on {host}:{port} ({error.strerror}); "
                "OPS_HOST and OPS_PORT choose another address."
            ) from error
        address = runner.addresses[0]
        server.url = f"http://{address[0]}:{address[1]}"
        yield server
    finally:
        await runner.cleanup()
