"""A Redis client that is confined to one key prefix.

It is redis-py's client, so a worker's code is the same with and without a prefix. Every command goes through
`Confinement`: alone, in a pipeline, in a transaction or for a subscription.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

# The ignored errors come from redis-py: methods without types, and bases with different `command_info`.
from redis import exceptions as rd
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Monitor, Pipeline, PubSub

from sandbox_core.addresses import RedisAddress

from .client import connection_pool
from .confinement import Confinement, refusal
from .key_table import BLOCKING, command_name

_SUBSCRIPTIONS = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
_MESSAGES = {"message", "pmessage", "smessage"} | {kind.lower() for kind in _SUBSCRIPTIONS}


def create_confined_client(address: RedisAddress | str, prefix: str, *, client_name: str) -> ConfinedRedis:
    """Return a client for a worker: every key and channel gets `prefix`; with "" it is a plain client.

    Close it with `aclose()`. A command that can't be confined is not sent and raises `InvalidInput`. A
    blocking command waits as long as its arguments say, without the time limit of other commands.

    A command is sent once. When its answer is lost, redis-py's `ConnectionError` or `TimeoutError` is raised,
    and the server has done it or not: an `INCR` that were sent again would count twice.
    """
    pool = connection_pool(address, client_name=client_name, repeats=False)
    client = ConfinedRedis(pool, Confinement(prefix))
    client.auto_close_connection_pool = True
    return client


class _Confined:
    """The common base of the client and its pipelines: all objects that they create are confined, too."""

    confinement: Confinement
    connection_pool: ConnectionPool
    response_callbacks: MutableMapping[str | bytes, Callable[..., Any]]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ConfinedPipeline:
        """Do the same as in redis-py; the keys of WATCH, queued commands and replies are confined."""
        return ConfinedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint, self.confinement
        )

    def pubsub(self, **kwargs: Any) -> ConfinedPubSub:
        """Do the same as in redis-py; channels and patterns get the prefix, messages have them without it."""
        return ConfinedPubSub(self.connection_pool, confinement=self.confinement, **kwargs)

    def client(self) -> ConfinedRedis:
        """Do the same as in redis-py: return a client with its own connection."""
        return ConfinedRedis(self.connection_pool, self.confinement, single_connection_client=True)

    def monitor(self) -> Monitor:
        """Refuse it with a prefix: it shows the commands of all clients."""
        if self.confinement:
            raise refusal("MONITOR", "it shows the commands of all clients", "`redis.pubsub()`")
        return Monitor(self.connection_pool)


class ConfinedRedis(_Confined, Redis):  # type: ignore[misc]
    """redis-py's client with one prefix; `create_confined_client` creates it."""

    def __init__(
        self, pool: ConnectionPool, confinement: Confinement, *, single_connection_client: bool = False
    ) -> None:
        super().__init__(connection_pool=pool, single_connection_client=single_connection_client)
        self.confinement = confinement

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command, confined. Raises `InvalidInput` when it can't be confined."""
        confined = self.confinement.confine(args)
        reply = await super().execute_command(*confined, **options)  # type: ignore[no-untyped-call]
        return self.confinement.undo(confined, reply)

    async def parse_response(self, connection: Any, command_name: str | bytes, **options: Any) -> Any:
        """Do the same as in redis-py, without a time limit for blocking commands."""
        name = command_name.decode("latin-1") if isinstance(command_name, bytes) else command_name
        if name.upper() not in BLOCKING:
            return await super().parse_response(connection, command_name, **options)
        limit, connection.socket_timeout = connection.socket_timeout, None
        try:
            return await super().parse_response(connection, command_name, **options)
        finally:
            connection.socket_timeout = limit


class ConfinedPipeline(_Confined, Pipeline):  # type: ignore[misc]
    """redis-py's pipeline with one prefix."""

    def __init__(
        self,
        pool: ConnectionPool,
        response_callbacks: Any,
        transaction: bool,
        shard_hint: str | None,
        confinement: Confinement,
    ) -> None:
        Pipeline.__init__(self, pool, response_callbacks, transaction, shard_hint)
        self.confinement = confinement

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send WATCH, and the commands between it and MULTI."""
        confined = self.confinement.confine(args)
        reply = await super().immediate_execute_command(  # type: ignore[no-untyped-call]
            *confined, **options
        )
        return self.confinement.undo(confined, reply)

    def pipeline_execute_command(self, *args: Any, **options: Any) -> ConfinedPipeline:
        """Queue a command, confined. Raises `InvalidInput` at once when it can't be confined."""
        confined = self.confinement.confine(args)
        super().pipeline_execute_command(*confined, **options)  # type: ignore[no-untyped-call]
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the queued commands."""
        queued = [args for args, _ in self.command_stack]
        replies = await super().execute(raise_on_error)
        return [self.confinement.undo(args, reply) for args, reply in zip(queued, replies, strict=True)]


class ConfinedPubSub(PubSub):
    """redis-py's subscriptions with one prefix. It keeps the names without the prefix."""

    def __init__(self, pool: ConnectionPool, *, confinement: Confinement, **kwargs: Any) -> None:
        super().__init__(pool, **kwargs)
        self.confinement = confinement

    async def execute_command(self, *args: Any) -> None:
        """Send a subscription, confined. Raises `InvalidInput` for any other command except PING."""
        if self.confinement:
            name = command_name(args)
            if name in _SUBSCRIPTIONS:
                args = (args[0], *(self.confinement.add(channel) for channel in args[1:]))
            elif name != "PING":
                raise refusal(name, "it is not a subscription", "`redis.execute_command(…)`")
        await super().execute_command(*args)

    async def _execute(self, conn: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        """Do the same as in redis-py, once more after a lost connection: a subscription can't be doubled."""
        try:
            return await super()._execute(conn, command, *args, **kwargs)  # type: ignore[no-untyped-call]
        except (rd.ConnectionError, rd.TimeoutError):
            # redis-py has connected again and subscribed.
            return await super()._execute(conn, command, *args, **kwargs)  # type: ignore[no-untyped-call]

    async def handle_message(self, response: Any, ignore_subscribe_messages: bool = False) -> Any:
        """Do the same as in redis-py, with channels and patterns without the prefix."""
        if isinstance(response, list | tuple):
            kind = response[0].decode() if isinstance(response[0], bytes) else response[0]
            if kind in _MESSAGES:
                # The last word is the payload, or the number of subscriptions.
                names = [self.confinement.strip(name) for name in response[1:-1]]
                response = [response[0], *names, response[-1]]
        return await super().handle_message(  # type: ignore[no-untyped-call]
            response, ignore_subscribe_messages
        )
