"""The process's HTTP side: the gateway, the REST guard, and what operators look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from .metrics import ClientMetrics
from .sessions.conversation import Gateway

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Troubles = Callable[[], Awaitable[Mapping[str, str]]]
"""What hinders the process now: servers with the reasons."""

LARGEST_BODY = 100 * 1024 * 1024


class EndpointApp:
    """Routes requests. `rest` answers everything under `/api`."""

    def __init__(self, gateway: Gateway, rest: Handler, metrics: ClientMetrics, troubles: Troubles) -> None:
        self._gateway = gateway
        self._rest = rest
        self._metrics = metrics
        self._troubles = troubles
        self.leaving = False

    def application(self) -> web.Application:
        """Return the application."""
        made = web.Application(client_max_size=LARGEST_BODY)
        made.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._show_metrics),
                web.get("/", self._gateway.serve),
                # twilight writes a slash behind whatever address it has.
                web.get("//", self._gateway.serve),
                web.get("/gateway", self._gateway.serve),
                web.get("/gateway/", self._gateway.serve),
                # Paths are the guard's to read: it gets them as they came.
                web.route("*", r"/{tail:[\s\S]*}", self._rest),
            ]
        )
        return made

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        missing = dict(await self._troubles())
        if self.leaving:
            missing["stop"] = "the process is ending"
        status = {"status": "not ready", "missing": missing} if missing else {"status": "ready"}
        return web.json_response(status, status=503 if missing else 200)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._metrics.registry), headers={"Content-Type": content_type})
