"""Connections whose errors name the server that does not answer, or the user whose login it refused."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from redis import exceptions as rd
from redis.asyncio.connection import Connection, SSLConnection

from sandbox_core.addresses import RedisAddress
from sandbox_core.errors import LoginRefused
from sandbox_core.stream_writes import write_at_once

from .errors import DEPENDENCY, INSTEAD, note, unavailable

PAUSE = 0.05
"""Seconds before something is tried a second time."""
_WRONG_DATABASE = "DB index is out of range"


class _Named:
    """The common base of both kinds of connections: it adds the user and the server to an error.

    The error keeps redis-py's class, because redis-py handles it by its class.
    """

    _address: RedisAddress
    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None
    _doubt = ""
    """A possible mistake in the address when no server answers."""

    def __init__(self, *, address: RedisAddress, repeats: bool = True, **options: Any) -> None:
        """`repeats` says that redis-py's own retry is on, which is for connecting and for commands."""
        self._address = address
        self._repeats = repeats
        super().__init__(**options)

    @property
    def was_ended(self) -> bool:
        """Whether the server has ended it while nobody used it, as a restart does."""
        reader = self._reader
        return reader is not None and (reader.at_eof() or reader.exception() is not None)

    async def connect(self) -> None:
        """Connect, at the second attempt if the first fails."""
        try:
            await super().connect()  # type: ignore[misc]
        except (rd.ConnectionError, rd.TimeoutError):
            if self._repeats:
                raise
            await asyncio.sleep(PAUSE)
            await super().connect()  # type: ignore[misc]

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[misc]
        if (writer := self._writer) is not None:
            write_at_once(writer)

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Do the same as in redis-py, which calls this to connect, at the first command and after a loss."""
        try:
            await super().connect_check_health(*args, **options)  # type: ignore[misc]
        except (rd.ConnectionError, rd.TimeoutError, rd.InvalidResponse) as error:
            if isinstance(error.__context__, ssl.SSLError):
                self._note(error, "TLS can't be agreed on, or the server's certificate can't be verified")
            else:
                self._note_place(error)
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Do the same as in redis-py."""
        try:
            answer = await super().read_response(*args, **options)  # type: ignore[misc]
        except rd.AuthenticationError as error:
            if self._address.password is None:
                self._note(error, "the server asks for a password, and none is given")
            else:
                self._note(error, "the user's name or the password is wrong")
            raise
        except (rd.ConnectionError, rd.TimeoutError, rd.InvalidResponse) as error:
            self._note_place(error)
            raise
        except rd.NoPermissionError as error:
            self._note(error, "its user may not do this", refused="permission")
            raise
        except rd.ResponseError as error:
            if _WRONG_DATABASE in str(error):
                self._note(error, "there is no database of that number")
            else:
                self._note_place(error)
            raise

        if isinstance(answer, list):
            # The answers of a transaction.
            for each in answer:
                if isinstance(each, rd.ResponseError):
                    self._note_place(each)
        return answer

    def _note_place(self, error: rd.RedisError) -> None:
        away = unavailable(error)
        if away is not None and not hasattr(error, INSTEAD):
            note(error, away.located(f"{self._address.where}{self._doubt}"))

    def _note(self, error: rd.RedisError, problem: str, *, refused: str = "login") -> None:
        refusal = LoginRefused(
            DEPENDENCY,
            where=self._address.where,
            user=self._address.who,
            problem=problem,
            setting=self._address.variable,
            refused=refused,
        )
        note(error, refusal)


class PlainConnection(_Named, Connection):
    """For `redis://`."""


class TlsConnection(_Named, SSLConnection):
    """For `rediss://`."""

    # A server without TLS reads the TLS greeting as an unfinished command, and waits.
    _doubt = ", by TLS as rediss:// asks for; without TLS it is redis://"
