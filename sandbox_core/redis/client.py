"""Creates Redis clients."""

from __future__ import annotations

from typing import Any

from redis import exceptions as rd
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from sandbox_core.addresses import RedisAddress
from sandbox_core.errors import DependencyUnavailable

from .encoding import ENCODING_ERRORS
from .errors import DEPENDENCY, INSTEAD, note
from .login import PAUSE, PlainConnection, TlsConnection

TIMEOUT = 2.0
"""The limit in seconds to connect, to get an answer, and to get a free connection of the pool."""
MAX_CONNECTIONS = 64


class _LocatedPool(BlockingConnectionPool):
    """A pool that says whose connections are all in use."""

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        """Do the same as in redis-py."""
        try:
            return await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        except rd.ConnectionError as error:
            if isinstance(error.__cause__, TimeoutError) and not hasattr(error, INSTEAD):
                address: RedisAddress = self.connection_kwargs["address"]
                problem = f"all {self.max_connections} connections of this process are in use"
                note(error, DependencyUnavailable(DEPENDENCY, problem, address.where))
            raise

    async def ensure_connection(self, connection: Any) -> None:
        """Do the same as in redis-py, which may hand out a connection that the server has ended."""
        if connection.was_ended:
            await connection.disconnect()
        await super().ensure_connection(connection)


def create_client(address: RedisAddress | str, *, client_name: str = "discord-sandboxes") -> Redis:
    """Return a client that decodes replies to text and fails soon. It connects at its first command.

    Close it with `aclose()`. Bytes that are not UTF-8 stay the same when they are read and written back.

    It sends a command once more when the answer is lost. So it is only for commands that do no harm when they
    are done twice. The bot's own are such: they set or delete, and compare moments where the order matters.
    """
    return Redis.from_pool(connection_pool(address, client_name=client_name))


def connection_pool(
    address: RedisAddress | str, *, client_name: str, repeats: bool = True
) -> BlockingConnectionPool:
    """Return the pool of connections for a client of `create_client`.

    Without `repeats` no command is sent twice; connecting is still tried twice.
    """
    address = RedisAddress.of(address)
    ours: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        # redis-py repeats what failed, whether or not the server has done it.
        "retry": Retry(ConstantBackoff(PAUSE), 1 if repeats else 0),
        "repeats": repeats,
        "decode_responses": True,
        "encoding_errors": ENCODING_ERRORS,
        "client_name": client_name,
    }
    # redis-py's default pool fails at once when a burst needs more connections; this one waits.
    return _LocatedPool(
        connection_class=TlsConnection if address.tls else PlainConnection,
        timeout=TIMEOUT,
        address=address,
        # The address has priority.
        **{**ours, **address.arguments()},
    )
