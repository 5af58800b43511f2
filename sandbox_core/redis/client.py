"""The Redis client, made in one way for everybody."""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from sandbox_core.addresses import RedisAddress

from .login import PlainConnection, TlsConnection

TIMEOUT = 2.0
"""Seconds for connecting, for one answer, and for a free connection of the pool."""
MAX_CONNECTIONS = 64


def create_client(address: RedisAddress | str, *, client_name: str = "discord-sandboxes") -> Redis:
    """A client that answers in text and fails soon; nothing is sent before its first command.

    Close it with `aclose()`. Bytes that are not UTF-8 survive being read and sent back.
    """
    return Redis.from_pool(connection_pool(address, client_name=client_name))


def connection_pool(address: RedisAddress | str, *, client_name: str) -> BlockingConnectionPool:
    """The connections of `create_client`'s clients."""
    address = RedisAddress.of(address)
    ours: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        # One more try, for a connection that was idle while the server restarted.
        "retry": Retry(ConstantBackoff(0.05), 1),
        "decode_responses": True,
        "encoding_errors": "surrogateescape",
        "client_name": client_name,
    }
    # Redis-py's default pool fails at once when a burst needs more connections; this one queues.
    return BlockingConnectionPool(
        connection_class=TlsConnection if address.tls else PlainConnection,
        timeout=TIMEOUT,
        address=address,
        # What the address says wins.
        **{**ours, **address.arguments()},
    )
