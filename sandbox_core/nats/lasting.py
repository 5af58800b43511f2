"""nats-py's client, without its final state: whoever holds it keeps it, and all subscriptions, for ever.

nats-py 2.16 closes a client for good when a server says `-ERR`, whatever the reason: too many connections
after a reload, a message that has become too large, a login that has expired. It also stops trying when its
own reconnecting fails in an unforeseen way. All of these pass, so here each is a lost connection like any
other. Only `leave` and then `close` end the client.

Rests on nats-py 2.16's `Client`: `_process_err` gets each `-ERR`, `_close` is the only way to the final
state, `_process_op_err` begins to reconnect, `_attempt_reconnect` makes the subscriptions anew, and
`_select_next_server` and `_process_connect_init` are the two steps of each attempt.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import nats.errors
from nats.aio.client import ERR_OP, Client
from nats.protocol.parser import AUTHORIZATION_VIOLATION, PERMISSIONS_ERR, STALE_CONNECTION

from sandbox_core import tasks

from .login import Judge, TlsClient

_PAUSES: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Seconds before an attempt, by how many connections in a row a server ended or refused."""
_STANDS_AFTER = 5.0
_SAYS_WITHIN = 0.2
"""Seconds in which a server that takes nobody says so after its greeting."""
_STAYS: Final = (PERMISSIONS_ERR, "invalid subject", "invalid publish subject", "invalid subscription")
"""After these the server keeps the connection."""
_MORE_STAYS: Final = "subscriptions exceeded"
_TOO_LARGE: Final = "maximum payload violation"
_TEXT_AT_MOST = 100


def words_of(error: Exception) -> str:
    """What a server said, for a sentence; "" when the error is not a server's words."""
    if isinstance(error, nats.errors.AuthorizationError):
        return AUTHORIZATION_VIOLATION
    text = str(error)
    if not isinstance(error, nats.errors.Error) or not text.startswith("nats: "):
        return ""
    shown = "".join(each for each in text.removeprefix("nats: ") if each.isprintable())
    return shown.strip("' ")[:_TEXT_AT_MOST]


class LastingClient(TlsClient):
    """Connects anew after every end but the one that was asked for."""

    def __init__(self, judge: Judge | None = None) -> None:
        super().__init__(judge)
        self.ended_by: Exception | None = None
        """Why the server ended the last connection, in its own words; None when it was lost without any."""
        self._leaving = False
        self._refusals = 0
        self._stands_since = 0.0
        self._said_max_payload = 0
        self._listens = False

    def leave(self) -> None:
        """Let the next `close` be final."""
        self._leaving = True

    def abort(self) -> None:
        """Drop the connection at once, with whatever was not sent."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    @property
    def enforces_less(self) -> bool:
        """True when the server ended the last connection for a message that is within its `max_payload`."""
        ended_by = self.ended_by
        return (
            ended_by is not None
            and _TOO_LARGE in str(ended_by)
            and self.max_payload >= self._said_max_payload
        )

    def lower_max_payload(self, size: int) -> None:
        """Take `size` in bytes for the limit of this connection's server, if it says a higher one."""
        self._max_payload = min(self._max_payload, size)

    async def connect_anew(self) -> None:
        """Give up the connection and begin to make another; without one an attempt is under way already."""
        if self.is_connected:
            await self._process_op_err(nats.errors.StaleConnectionError())

    async def go_on(self) -> None:
        """Begin to connect anew if the client has come to rest without a connection that works.

        Whatever ended its tasks, such as an unforeseen error in one of them, is no reason to stay so.
        """
        if self._leaving:
            return
        if self.is_connected:
            tasks = (self._reading_task, self._flusher_task, self._ping_interval_task)
            if any(task is None or task.done() for task in tasks):
                await self.connect_anew()
        elif self._reconnection_task is None or self._reconnection_task.done():
            self._status = Client.RECONNECTING
            self._ps.reset()
            self._reconnection_task = asyncio.get_running_loop().create_task(self._attempt_reconnect())

    # What nats-py does at the end of a connection

    async def _process_err(self, err_msg: str) -> None:
        if STALE_CONNECTION in err_msg:
            await super()._process_err(err_msg)
            return
        error: nats.errors.Error = nats.errors.Error(f"nats: {err_msg.strip(chr(39))}")
        if AUTHORIZATION_VIOLATION in err_msg:
            error = nats.errors.AuthorizationError()
        self._err = error
        if any(words in err_msg for words in (*_STAYS, _MORE_STAYS)):
            await self._error_cb(error)
        else:
            await self._end_by(error)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if not self._leaving and status == Client.CLOSED:
            await self._end_by(self._err or nats.errors.ConnectionClosedError())
            return
        attempts = self._reconnection_task
        if self._leaving and attempts is not None and attempts is not asyncio.current_task():
            # nats-py cancels it once, and loses a cancellation that lands as an attempt fails.
            await tasks.end(attempts)
        await super()._close(status, do_cbs)

    async def _end_by(self, error: Exception) -> None:
        # Without a connection an attempt is under way already.
        if self.is_connected:
            self.ended_by = error
            self._said_max_payload = self.max_payload
            await self._process_op_err(error)

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_connected:
            if e is not self.ended_by:
                self.ended_by = None
            stood = time.monotonic() - self._stands_since >= _STANDS_AFTER
            if stood:
                self._refusals = 0
            if not stood or self.ended_by is not None:
                self._refusals += 1
            # nats-py would wait until a server that hangs has taken what was buffered.
            self.abort()
        await super()._process_op_err(e)

    # What nats-py does in an attempt

    async def _select_next_server(self) -> None:
        # Servers of a cluster are tried one after the other without a pause.
        tried = self._refusals // max(1, len(self._server_pool))
        await asyncio.sleep(_PAUSES[min(tried, len(_PAUSES) - 1)])
        await super()._select_next_server()

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
            if not self.is_connected:
                self._end_tasks()
                self._listens = True
                raise nats.errors.Error("nats: no answer to PING")
        except nats.errors.Error:
            self._refusals += 1
            raise
        except OSError:
            self._listens = True
            raise
        except TimeoutError:
            raise
        except Exception as error:
            # A greeting that nats-py can't read: anything else than its own errors would end its attempts.
            self._refusals += 1
            raise nats.errors.Error("nats: the server's greeting can't be read") from error
        self._listens = False
        self._stands_since = time.monotonic()

    def _end_tasks(self) -> None:
        for task in (self._reading_task, self._flusher_task, self._ping_interval_task):
            if task is not None:
                task.cancel()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await super()._process_info(info, initial_connection=initial_connection)
        if isinstance(limit := info.get("max_payload"), int):
            # An account's own limit comes after the login.
            self._max_payload = limit
        if initial_connection and self._listens:
            await self._hear_refusal()

    async def _hear_refusal(self) -> None:
        """Raise what the server says right after its greeting, if it says anything.

        A server that takes no more connections says so and closes. What is sent to it then resets the
        connection, and its words are lost.
        """
        transport: Any = self._transport
        try:
            async with asyncio.timeout(_SAYS_WITHIN):
                line: bytes = await transport.readline()
        except TimeoutError:
            return
        if line.startswith(ERR_OP):
            said = line.removeprefix(ERR_OP).decode(errors="replace").strip()
            raise nats.errors.Error(f"nats: {said}")
