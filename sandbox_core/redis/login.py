"""Connections that say whose login was refused, and where."""

from __future__ import annotations

import ssl
from typing import Any

from redis import exceptions as rd
from redis.asyncio.connection import Connection, SSLConnection

from sandbox_core.addresses import RedisAddress
from sandbox_core.errors import LoginRefused

from .errors import DEPENDENCY, REFUSAL

_WRONG_DATABASE = "DB index is out of range"


class _Named:
    """What both kinds of connections share: a refusal that they raise carries who was refused, and where.

    The error's class stays redis-py's, so that its own handling of it does.
    """

    _address: RedisAddress

    def __init__(self, *, address: RedisAddress, **options: Any) -> None:
        self._address = address
        super().__init__(**options)

    async def connect(self) -> None:
        """As in redis-py."""
        try:
            await super().connect()  # type: ignore[misc]
        except rd.ConnectionError as error:
            if isinstance(error.__context__, ssl.SSLError):
                self._note(error, "TLS can't be agreed on, or the server's certificate can't be verified")
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As in redis-py."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except rd.AuthenticationError as error:
            if self._address.password is None:
                self._note(error, "the server asks for a password, and none is given")
            else:
                self._note(error, "the user's name or the password is wrong")
            raise
        except rd.NoPermissionError as error:
            self._note(error, "its user may not do this")
            raise
        except rd.ResponseError as error:
            if _WRONG_DATABASE in str(error):
                self._note(error, "there is no database of that number")
            raise

    def _note(self, error: rd.RedisError, problem: str) -> None:
        refusal = LoginRefused(
            DEPENDENCY,
            where=self._address.where,
            user=self._address.who,
            problem=problem,
            setting=self._address.variable,
        )
        setattr(error, REFUSAL, refusal)


class PlainConnection(_Named, Connection):
    """For `redis://`."""


class TlsConnection(_Named, SSLConnection):
    """For `rediss://`."""
