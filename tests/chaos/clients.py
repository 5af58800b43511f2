"""Bots of sandboxes at the gateway endpoint, and what each saw compared with what was stored for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from discord_sim import Frame
from tests.e2e.harness import get
from tests.gateway_endpoint.front import Front, front

from .bots import RECOVERS_WITHIN, Bot, Bots, ChaosError, Process, start_words, until
from .judge import Verdict
from .reader import StreamReader, read_to_the_end
from .sides import Sides

if TYPE_CHECKING:
    from .stage import Stage

_ALL_INTENTS = (1 << 26) - 1
_PAUSE = 0.2
_BEATS_EVERY = 15.0
_STARTS_WITHIN = 60.0
# Each server takes several requests, of which all sandboxes together may send ten a second.
_INTRODUCED_WITHIN = 120.0
# These the endpoint makes, or changes, itself.
_ITS_OWN = {"READY", "RESUMED", "GUILD_CREATE", "GUILD_DELETE", "INTERACTION_CREATE"}


@dataclass
class Client:
    """One sandbox's bot."""

    url: str
    sandbox_id: str
    token: str
    sessions: list[list[str]] = field(default_factory=list)
    """What each of its sessions has seen, over all its connections."""
    resumes: int = 0
    unseen: set[str] = field(default_factory=set)
    """The servers that READY named and the client has not been told of yet."""
    _session_id: str = ""
    _sequence: int = 0

    async def follow(self) -> None:
        """Stay connected until cancelled."""
        async with aiohttp.ClientSession() as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with http.ws_connect(self.url, max_msg_size=0) as socket:
                        await self._connected(socket)
                await asyncio.sleep(_PAUSE)

    async def _connected(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.receive_json(timeout=_BEATS_EVERY)
        if self._session_id:
            body = {"token": self.token, "session_id": self._session_id, "seq": self._sequence}
            await socket.send_json({"op": 6, "d": body})
        else:
            body = {"token": self.token, "intents": _ALL_INTENTS, "properties": {}}
            await socket.send_json({"op": 2, "d": body})
        beat = time.monotonic()
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT or not self._take(json.loads(message.data)):
                return
            if time.monotonic() > beat + _BEATS_EVERY:
                beat = time.monotonic()
                await socket.send_json({"op": 1, "d": self._sequence})

    def _take(self, payload: dict[str, Any]) -> bool:
        """Note a payload; False if the connection is over."""
        match payload["op"]:
            case 0:
                self._sequence = payload["s"]
                if payload["t"] == "READY":
                    self._session_id = payload["d"]["session_id"]
                    self.sessions.append([])
                    self.unseen = {each["id"] for each in payload["d"]["guilds"]}
                if payload["t"] in {"GUILD_CREATE", "GUILD_DELETE"}:
                    self.unseen.discard(payload["d"]["id"])
                self.resumes += payload["t"] == "RESUMED"
                if payload["t"] not in _ITS_OWN:
                    self.sessions[-1].append(_key(payload))
            case 9:
                self._session_id = ""
                return False
            case 7:
                return False
        return True


class Endpoints:
    """Two processes of the endpoint behind one address, and a client of each sandbox."""

    def __init__(self, bots: Bots, address: Front) -> None:
        self._bots = bots
        self.front = address
        self.processes: dict[int, Bot] = {}
        """By their ports."""
        self.clients: dict[str, Client] = {}

    async def start(self, port: int) -> None:
        """Start a process, and wait until it is ready."""
        settings = {"SANDBOX_GATEWAY_PORT": str(port), "SANDBOX_GATEWAY_URL": self.front.url}
        bot = self.processes[port] = await self._bots.launch(settings, _start_endpoint)
        deadline = time.monotonic() + _STARTS_WITHIN
        while True:
            with contextlib.suppress(OSError):
                if (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200:
                    return
            if time.monotonic() > deadline or not bot.running:
                raise ChaosError(f"an endpoint did not start:\n{bot.tail()}")
            await asyncio.sleep(0.1)

    async def caught_up(self, readers: Mapping[str, StreamReader]) -> None:
        """Return when each client has seen the last event of its sandbox."""
        for name, client in self.clients.items():
            await read_to_the_end(readers[name])
            keys = [key for message in readers[name].messages if (key := _stored(message.payload))]
            if not keys:
                raise ChaosError(f"{name} got no events")
            await until(
                lambda client=client, last=keys[-1]: client.sessions and last in client.sessions[-1],
                RECOVERS_WITHIN,
                f"the last event at the client of {name}",
            )


@asynccontextmanager
async def endpoints(bots: Bots, logins: Mapping[str, Mapping[str, str]]) -> AsyncIterator[Endpoints]:
    """Run them, with a client of each of these sandboxes connected."""
    async with front() as address:
        made = Endpoints(bots, address)
        await asyncio.gather(*(made.start(port) for port in address.ports))
        url = f"ws{address.url.removeprefix('http')}/?v=10&encoding=json"
        made.clients = {
            name: Client(url, variables["SANDBOX_ID"], variables["DISCORD_TOKEN"])
            for name, variables in logins.items()
        }
        following = [asyncio.create_task(client.follow()) for client in made.clients.values()]
        try:
            await until(
                lambda: all(client.sessions and not client.unseen for client in made.clients.values()),
                _INTRODUCED_WITHIN,
                "each client's READY and servers",
            )
            yield made
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)


async def connect(stage: Stage) -> None:
    """Connect the sandboxes' bots, if the scenario has some; they stay until its end."""
    if stage.scenario.clients and stage.tenants is not None:
        made = endpoints(stage.bots, stage.tenants.logins)
        stage.endpoints = await stage.stack.enter_async_context(made)


async def catch_up(stage: Stage, verdict: Verdict) -> None:
    """Wait until each has the last event."""
    try:
        if stage.endpoints is not None:
            await stage.endpoints.caught_up(stage.readers)
    except ChaosError as error:
        verdict.problems.append(str(error))


def judge(stage: Stage, sides: Sides, verdict: Verdict) -> None:
    """Each session has seen what its sandbox's stream has, once and in order, from its first event on."""
    if stage.endpoints is None:
        return
    frames = {_key(json.loads(frame.raw)): frame for frame in stage.sim.sent if frame.type not in _ITS_OWN}
    for name, client in stage.endpoints.clients.items():
        stored = [(m.life, key) for m in stage.readers[name].messages if (key := _stored(m.payload))]
        for session in client.sessions:
            _judge_session(session, stored, f"at the client of {name}", verdict)
        known = {key for _, key in stored}
        for key in {key for session in client.sessions for key in session} - known:
            if not _was_its(frames.get(key), client.sandbox_id, sides):
                verdict.strange += 1
                verdict.example("strange", f"at the client of {name}: {key[:200]}")


def _judge_session(
    session: Sequence[str], stored: Sequence[tuple[int, str]], where: str, verdict: Verdict
) -> None:
    places: dict[str, list[int]] = defaultdict(list)
    for place, (_, key) in enumerate(stored):
        places[key].append(place)
    last = -1
    for key in session:
        later = [place for place in places.get(key, ()) if place > last]
        if later:
            if last >= 0 and stored[last][0] == stored[later[0]][0] and later[0] > last + 1:
                verdict.lost += later[0] - last - 1
                verdict.example("lost", f"{later[0] - last - 1} {where}, before {key[:100]}")
            last = later[0]
        elif key in places:
            verdict.doubled += 1
            verdict.example("doubled", f"{where}, or out of order: {key[:200]}")


def _was_its(frame: Frame | None, sandbox_id: str, sides: Sides) -> bool:
    """Whether an event belonged there, that the stream lost with its memory before it could be read."""
    return frame is not None and sandbox_id in sides.allowed(frame.guild_id, frame.sent_at, time.time())


def _key(payload: Mapping[str, Any]) -> str:
    return f"{payload['t']} {json.dumps(payload['d'], sort_keys=True)}"


def _stored(payload: bytes) -> str:
    read = json.loads(payload)
    return "" if read["t"] in _ITS_OWN else _key(read)


async def _start_endpoint(environment: Mapping[str, str]) -> Process:
    return await start_words((sys.executable, "-m", "sandbox_bot", "gateway"), environment)
