"""The Redis client, made in one way for everybody."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

TIMEOUT = 2.0
"""Seconds for connecting, for one answer, and for a free connection of the pool."""
MAX_CONNECTIONS = 64


def create_client(redis_url: str, *, client_name: str = "discord-sandboxes") -> Redis:
    """A client that answers in text and fails soon; nothing is sent before its first command.

    Close it with `aclose()`. Bytes that are not UTF-8 survive being read and sent back.
    """
    return Redis.from_pool(connection_pool(redis_url, client_name=client_name))


def connection_pool(redis_url: str, *, client_name: str) -> BlockingConnectionPool:
    """The connections of `create_client`'s clients."""
    return BlockingConnectionPool.from_url(
        redis_url,
        # Redis-py's default pool fails at once when a burst needs more connections; this one queues.
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        # One more try, for a connection that was idle while the server restarted.
        retry=Retry(ConstantBackoff(0.05), 1),
        decode_responses=True,
        encoding_errors="surrogateescape",
        client_name=client_name,
    )
