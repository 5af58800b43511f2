"""Serves the REST API over HTTP: authentication, bodies, errors and records of requests."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import web

from discord_sim.errors import ApiError
from discord_sim.frames import encode
from discord_sim.interactions import InteractionDesk
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.rest import accounts, channels, commands, guilds, webhooks
from discord_sim.rest.routing import Answer, Backend, Call, RecordedRequest, Route
from discord_sim.world import World
from discord_sim.world.messages import SimFile

PREFIX = re.compile(r"^/api(?:/v\d+)?(?=/)")
AREAS = (accounts, guilds, channels, commands, webhooks)


class RestServer:
    """Answers every REST request, and keeps a record of it.

    `token` is the accepted bot token; `gateway_info` returns the answer of `GET /gateway/bot`.
    """

    def __init__(
        self,
        world: World,
        desk: InteractionDesk,
        token: str,
        gateway_info: Callable[[], Json],
    ) -> None:
        self.world = world
        self._backend = Backend(world, desk, gateway_info)
        self.requests: list[RecordedRequest] = []
        self.unknown_requests: list[RecordedRequest] = []
        self.failures: deque[tuple[str, re.Pattern[str], int]] = deque()
        self.lost: deque[tuple[str, re.Pattern[str], bool]] = deque()
        self.page: tuple[re.Pattern[str], int, str] | None = None
        self.delay: Callable[[RecordedRequest], Awaitable[None]] | None = None
        self._token = token
        # Literal paths first, so that @original in /messages/@original is not taken for an id.
        routes = [route for area in AREAS for route in area.ROUTES.routes]
        routes.sort(key=lambda route: route.template.count("{"))
        self._routes = [(_pattern(route.template), route) for route in routes]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        path = PREFIX.sub("", request.path)
        record = RecordedRequest(
            at=self.world.clock(),
            method=request.method,
            path=path,
            query=dict(request.query),
            # The token is a secret, and tests print the records.
            headers={k: v for k, v in request.headers.items() if k != "Authorization"},
        )
        self.requests.append(record)
        if self.page is not None and self.page[0].search(path):
            _, record.status, retry_after = self.page
            return web.Response(
                status=record.status,
                text="<html><title>Error 1015</title></html>",
                content_type="text/html",
                headers={"Retry-After": retry_after},
            )
        try:
            answer = await self._answer(request, record)
        except ApiError as error:
            answer = Answer(error.status, error.body())
        lost = self._lost(record)
        if lost is not None:
            answer = Answer(502, {"message": "502: Bad Gateway", "code": 0})
        if lost and request.transport is not None:
            # aiohttp then has nobody to write the answer to.
            request.transport.abort()
        record.status, record.response = answer.status, answer.body
        if answer.status == 204:
            return web.Response(status=204)
        return web.Response(
            status=answer.status,
            body=encode(answer.body),
            # Without a charset: clients compare the value literally.
            headers={"Content-Type": "application/json"},
        )

    async def _answer(self, request: web.Request, record: RecordedRequest) -> Answer:
        record.body, files = await self._body(request)
        record.files = [file.filename for file in files]
        self._injected_failure(record)
        route, params = self._match(record.method, record.path)
        if route is None:
            self.unknown_requests.append(record)
            raise ApiError(404, 0, "404: Not Found")
        record.route = route.template
        if route.auth and request.headers.get("Authorization") != f"Bot {self._token}":
            raise ApiError(401, 0, "401: Unauthorized")
        if self.delay is not None:
            await self.delay(record)
        call = Call(self._backend, params, record.query, record.body, files)
        result = await route.handler(call)
        return result if isinstance(result, Answer) else Answer(200, result)

    def _match(self, method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        for pattern, route in self._routes:
            found = pattern.match(path)
            if found is not None and route.method == method:
                return route, found.groupdict()
        return None, {}

    def _injected_failure(self, record: RecordedRequest) -> None:
        for number, (method, pattern, status) in enumerate(self.failures):
            if method == record.method and pattern.search(record.path):
                del self.failures[number]
                raise ApiError(status, 0, f"{status}: injected failure")

    def _lost(self, record: RecordedRequest) -> bool | None:
        """Whether the connection ends with the answer; None when the answer is not to be lost."""
        for number, (method, pattern, dropped) in enumerate(self.lost):
            if method == record.method and pattern.search(record.path):
                del self.lost[number]
                return dropped
        return None

    async def _body(self, request: web.Request) -> tuple[JsonValue, list[SimFile]]:
        if request.content_type == "multipart/form-data":
            return await self._multipart(request)
        data = await request.read()
        if not data:
            return None, []
        try:
            return json.loads(data), []
        except ValueError:
            raise ApiError(400, 50109, "The request body contains invalid JSON.") from None

    async def _multipart(self, request: web.Request) -> tuple[JsonValue, list[SimFile]]:
        body: JsonValue = {}
        files: list[SimFile] = []
        form = await request.post()
        for name, value in form.items():
            if isinstance(value, web.FileField):
                content_type = value.content_type or "application/octet-stream"
                files.append(
                    SimFile(self.world.snowflakes.next(), value.filename, value.file.read(), content_type)
                )
            elif name == "payload_json":
                text = value.decode() if isinstance(value, (bytes, bytearray)) else value
                body = json.loads(text)
        return body, files


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
    return re.compile(f"^{escaped}/?$")
