"""Joins the parts of a running simulator on one port."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from discord_sim.actors import Actors
from discord_sim.faults import Faults
from discord_sim.frames import Frame, Payload, encode
from discord_sim.gateway import Gateway, GatewayRules
from discord_sim.intents import filtered
from discord_sim.interactions import InteractionDesk
from discord_sim.jsontypes import Json
from discord_sim.rest.server import RestServer
from discord_sim.session import GatewaySession, SessionHub
from discord_sim.snowflake import Clock
from discord_sim.world import World, shapes
from discord_sim.world.messages import SimFile

HOST = "127.0.0.1"
UPLOAD_LIMIT = 30 * 1024 * 1024

ControlHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SimServer:
    """The world, the gateway and the REST API on one loopback port.

    - `token`: the accepted bot token
    - `application_id`: the id of the application and of its bot user
    - `owner`: the name of the account that owns the application
    - `replay_limit`: the number of frames that a session keeps for RESUME
    - `heartbeat_interval_ms`: the interval in HELLO
    - `max_concurrency`: the number of IDENTIFY buckets; each allows one IDENTIFY in 5 s
    - `shards`: the recommended shard count
    - `clock`: seconds since the Unix epoch. It counts for the ages of interactions, sessions and IDENTIFY
      buckets; waits for answers use real time
    - `port`: 0 for a free port
    - `session_ttl`: the seconds in which a lost session can be resumed
    - `record`: keep every dispatched frame in `sent`
    - `filter_intents`: send a session only the events of its intents, and no message content without that
      intent
    - `enforce_identify_limit`: refuse an IDENTIFY that comes too soon (op 9)
    """

    def __init__(
        self,
        token: str = "sim-token",  # noqa: S107 - a made-up one, for a made-up Discord
        *,
        application_id: int | None = None,
        owner: str | None = None,
        replay_limit: int = 5000,
        heartbeat_interval_ms: int = 41_250,
        max_concurrency: int = 1,
        shards: int = 1,
        clock: Clock = time.time,
        port: int = 0,
        session_ttl: float = 180.0,
        record: bool = False,
        filter_intents: bool = False,
        enforce_identify_limit: bool = False,
    ) -> None:
        self.token = token
        self.port = port
        self.recommended_shards = shards
        self.filter_intents = filter_intents
        self.clock = clock
        self.world = World(clock, application_id=application_id, owner=owner or "owner")
        self.hub = SessionHub(clock, replay_limit=replay_limit, session_ttl=session_ttl, record=record)
        self.rules = GatewayRules(
            token,
            heartbeat_interval_ms=heartbeat_interval_ms,
            max_concurrency=max_concurrency,
            enforce_identify_limit=enforce_identify_limit,
        )
        self.gateway = Gateway(self.world, self.hub, self.rules)
        self.desk = InteractionDesk(self.world)
        self.rest = RestServer(self.world, self.desk, token, self._gateway_info)
        self.actors = Actors(self.world, self.hub, self.desk)
        self.faults = Faults(self.gateway)
        self.world.dispatch = self._dispatch
        self.control: ControlHandler | None = None
        self._runner: web.AppRunner | None = None
        self._broken: list[Exception] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} port={self.port} guilds={len(self.world.guilds)}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if self._broken and error is None:
            raise ExceptionGroup("the simulator could not answer", self._broken)

    async def start(self) -> None:
        """Listen on the loopback interface. Raises `OSError` when the port is taken."""
        app = web.Application(client_max_size=UPLOAD_LIMIT)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = int(self._runner.addresses[0][1])
        self.gateway.resume_url = f"ws://{HOST}:{self.port}/resume"
        self.world.cdn_url = f"http://{HOST}:{self.port}"

    async def stop(self) -> None:
        """Drop every connection and stop listening."""
        await self.faults.stop()
        for connection in list(self.gateway.connections):
            connection.abort()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- addresses ---------------------------------------------------------

    @property
    def api_url(self) -> str:
        """The base URL of REST, for `discord.http.Route.BASE` or hikari's `rest_url`."""
        return f"http://{HOST}:{self.port}/api/v10"

    @property
    def gateway_url(self) -> str:
        """The gateway's address, as in the answer of `GET /gateway`."""
        return f"ws://{HOST}:{self.port}/"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except OSError:
            # The client has gone.
            raise
        except Exception as error:
            # Its client sees a status 500, which a test may take for what it wanted to see.
            self._broken.append(error)
            raise

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/api/"):
            return await self.rest.serve(request)
        if path.startswith("/attachments/"):
            return self._attachment(path)
        if path.startswith("/_sim/"):
            if self.control is None:
                return web.Response(status=404)
            return await self.control(request)
        return await self.gateway.serve(request)

    def _attachment(self, path: str) -> web.Response:
        part = path.split("/")[3]
        wanted = int(part) if part.isdigit() else 0
        file = self._find_file(wanted)
        if file is None:
            return web.Response(status=404)
        return web.Response(body=file.content, headers={"Content-Type": file.content_type})

    def _find_file(self, file_id: int) -> SimFile | None:
        for messages in self.world.messages.values():
            for message in messages.values():
                for file in message.files:
                    if file.id == file_id:
                        return file
        return self.world.uploads.get(file_id)

    def _gateway_info(self) -> Json:
        return {
            "url": self.gateway_url,
            "shards": self.recommended_shards,
            "session_start_limit": {
                "total": 1000,
                "remaining": self.rules.session_starts_left,
                "reset_after": 0 if self.rules.session_starts_left == 1000 else 86_400_000,
                "max_concurrency": self.rules.max_concurrency,
            },
        }

    def _dispatch(self, event: str, build: shapes.Builder, guild_id: int | None) -> None:
        targets = self.hub.targets(guild_id)
        if event == "GUILD_CREATE" and guild_id is not None:
            where = guild_id
            self.hub.sent_to(targets, lambda s: self.gateway.guild_payload(s, where))
        elif targets:
            self._send(event, build(), guild_id)

    def _send(self, event: str, body: Json, guild_id: int | None) -> list[Frame]:
        payload = Payload(event, guild_id, encode(body))
        if not self.filter_intents:
            return self.hub.dispatch(payload)

        def allowed(session: GatewaySession) -> Payload | None:
            seen = filtered(event, body, session.intents, self.world.application_id)
            if seen is body:
                return payload
            return None if seen is None else Payload(event, guild_id, encode(seen))

        return self.hub.sent_to(self.hub.targets(guild_id), allowed)
