"""The protocol of one connection, from HELLO to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any

import structlog
from aiohttp import WSMsgType, web

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable

from . import requests
from .beginning import Beginnings, Opened, Refused
from .client import RESTART, Client
from .compression import ENCODERS, Plain
from .limits import SentLimit
from .protocol import (
    CloseCode,
    Closing,
    FromClient,
    Identify,
    Op,
    RequestMembers,
    RequestSounds,
    Resume,
    read,
    read_body,
)
from .service import Service
from .session import LOST, Session

_log = structlog.get_logger("sandbox.client_gateway")

_VERSIONS = frozenset({"9", "10"})
_LARGEST_MESSAGE = 64 * 1024
_PATIENCE = 1.5
"""How many heartbeats' time a client may be silent."""
_ABNORMAL = 1006
"""The code of an end without a word."""
_AGAIN = 0.5
"""Seconds until a client that comes to a process which ends is sent away again."""
_ANSWERS_AT_ONCE, _ANSWERS_WAITING = 3, 120
"""Of one client: an answer may be all members of a large server."""
_QUIET = frozenset({Op.PRESENCE, Op.REQUEST_CHANNEL_INFO})


class Conversation:
    """Talks to one client; `leaving` is set when this process is to end."""

    def __init__(
        self, service: Service, beginnings: Beginnings, client: Client, leaving: asyncio.Event
    ) -> None:
        self._service = service
        self._beginnings = beginnings
        self._client = client
        self._leaving = leaving
        self._sent = SentLimit()
        self._session: Session | None = None
        self._life: asyncio.Task[None] | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._few = asyncio.Semaphore(_ANSWERS_AT_ONCE)

    async def run(self, socket: web.WebSocketResponse, encoding: str) -> None:
        """Talk until the connection ends."""
        interval = self._service.tuning.heartbeat_ms
        try:
            await self._client.operate(Op.HELLO, {"heartbeat_interval": interval, "_trace": []})
            if self._client.version not in _VERSIONS:
                raise Closing(CloseCode.INVALID_VERSION, "v is 9 or 10")
            if encoding != "json":
                raise Closing(CloseCode.DECODE_ERROR, "the only encoding here is json")
            while True:
                message = await socket.receive(timeout=interval / 1000 * _PATIENCE)
                if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    if self._client.closing is None:
                        self._report("left", code=socket.close_code or _ABNORMAL)
                    break
                if self._sent.exceeded():
                    raise Closing(CloseCode.RATE_LIMITED, "120 payloads a minute are the most")
                await self._receive(read(message.data))
        except TimeoutError:
            await self.close(Closing(CloseCode.SESSION_TIMED_OUT, "no heartbeat has come"))
        except Closing as closing:
            await self.close(closing)
        except ConnectionResetError:
            # The client has gone while it was answered.
            pass
        finally:
            await tasks.end(*self._answers, *([] if self._life is None else [self._life]))

    async def close(self, closing: Closing) -> None:
        """End the connection."""
        self._service.metrics.closed.labels(str(int(closing.code))).inc()
        self._report("closed", code=int(closing.code), reason=closing.reason)
        _log.info("client_closed", code=int(closing.code), reason=closing.reason)
        await self._client.close(closing)

    def _report(self, what: str, **details: object) -> None:
        """Keep for the sandbox's owner what happened, if it is known whose client this is."""
        if self._session is not None:
            self._session.report(what, **details)
        elif self._client.holder is not None:
            self._service.reports.record_session(self._client.holder, what, details)

    async def send_away(self) -> None:
        """Ask the client to resume at another process."""
        await self._client.operate(Op.RECONNECT)

    async def _receive(self, message: FromClient) -> None:
        match message.op:
            case Op.HEARTBEAT:
                await self._heartbeat(message)
            case Op.IDENTIFY:
                self._begin(self._beginnings.identify(self._client, read_body(message.d, Identify)))
            case Op.RESUME:
                self._begin(self._beginnings.resume(self._client, read_body(message.d, Resume)))
            case Op.REQUEST_MEMBERS:
                asked = read_body(message.d, RequestMembers)
                self._answer(partial(requests.members, self._service, self._present(), asked))
            case Op.REQUEST_SOUNDS:
                wanted = read_body(message.d, RequestSounds)
                self._answer(partial(requests.sounds, self._service, self._present(), wanted))
            case Op.VOICE_STATE:
                requests.refuse_voice(self._present())
            case op if op in _QUIET:
                self._present()
            case _:
                raise Closing(CloseCode.UNKNOWN_OP, "there is no such operation for clients")

    async def _heartbeat(self, message: FromClient) -> None:
        sequence = read_body(message.d, int | None)
        if sequence is not None and self._session is not None:
            sequence = min(sequence, self._session.sequence)
            self._client.acknowledged = max(self._client.acknowledged, sequence)
            # Saved again, so that it does not lapse while nothing happens.
            self._session.unsaved = True
        await self._client.operate(Op.HEARTBEAT_ACK)

    def _present(self) -> Session:
        if self._session is None:
            raise Closing(CloseCode.NOT_AUTHENTICATED, "IDENTIFY comes first")
        return self._session

    def _begin(self, opening: AbstractAsyncContextManager[Opened]) -> None:
        if self._life is not None and not self._life.done():
            raise Closing(CloseCode.ALREADY_AUTHENTICATED, "this connection has its session already")
        self._life = asyncio.create_task(self._live(opening), name="client-session")

    async def _live(self, opening: AbstractAsyncContextManager[Opened]) -> None:
        """Open the session and serve it to its end."""
        try:
            if self._leaving.is_set():
                await asyncio.sleep(_AGAIN)
                await self.send_away()
                return
            async with opening as opened:
                self._session = opened.session
                try:
                    await self._serve(opened)
                except Closing as closing:
                    await self.close(closing)
        except Refused as refused:
            self._report("refused", reason=str(refused))
            self._client.holder = None
            await self._client.operate(Op.INVALID_SESSION, False)
        except Closing as closing:
            await self.close(closing)
        except ConnectionResetError:
            pass
        except DependencyUnavailable as error:
            await self.close(Closing(CloseCode.RECONNECT, f"{error.dependency} is away; resume later"))
        except Exception:
            # Whatever it was: the client can resume, and its connection must not stay silent.
            _log.exception("client_session_failed")
            await self.close(Closing(CloseCode.RECONNECT, "an internal error; resume"))
        finally:
            self._session = None
            # They are of this session, and nobody reads its queue any more.
            await tasks.end(*self._answers)

    async def _serve(self, opened: Opened) -> None:
        session = opened.session

        async def send() -> None:
            await opened.greet()
            await session.run()

        sending = asyncio.create_task(send(), name="client-events")
        try:
            ends: set[asyncio.Future[Any]] = {sending, session.ended}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            closing = session.ended.result()
        finally:
            await tasks.end(sending)
        if closing is LOST:
            raise Refused("events_lost")
        raise closing

    def _answer(self, work: Callable[[], Awaitable[None]]) -> None:
        if len(self._answers) >= _ANSWERS_WAITING:
            raise Closing(CloseCode.RATE_LIMITED, "it asks for more than it reads")
        task = asyncio.create_task(self._in_turn(work), name="client-answer")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _in_turn(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._few:
            await work()


class Gateway:
    """Accepts connections."""

    def __init__(self, service: Service, beginnings: Beginnings) -> None:
        self._service = service
        self._beginnings = beginnings
        self._leaving = asyncio.Event()
        self._conversations: set[Conversation] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._conversations)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one WebSocket."""
        socket = web.WebSocketResponse(compress=False, max_msg_size=_LARGEST_MESSAGE, timeout=1.0)
        if not socket.can_prepare(request).ok:
            return web.json_response({"message": "this is a WebSocket", "code": 0}, status=426)
        await socket.prepare(request)
        query = request.query
        encoder = ENCODERS.get(query.get("compress", ""), Plain)()
        client = Client(request, socket, encoder)
        conversation = Conversation(self._service, self._beginnings, client, self._leaving)
        self._conversations.add(conversation)
        self._empty.clear()
        try:
            await conversation.run(socket, query.get("encoding", "json"))
        finally:
            self._conversations.discard(conversation)
            if not self._conversations:
                self._empty.set()
        return socket

    async def leave(self, within: float) -> None:
        """Send every client to another process, and end what is left after `within` seconds.

        The listener stays open meanwhile: some libraries begin anew where a connection is refused.
        """
        self._leaving.set()
        await asyncio.gather(*(each.send_away() for each in self._conversations), return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._empty.wait()
        await asyncio.gather(*(each.close(RESTART) for each in tuple(self._conversations)))
