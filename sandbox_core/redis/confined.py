"""A Redis client that stays inside one key prefix.

It is redis-py's client, so a worker's code is the same with and without a prefix. Every command passes
`Confinement`, whether it is sent alone, in a pipeline, in a transaction or for a subscription.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

# The ignored errors are redis-py's: methods without types, and bases that disagree about `command_info`.
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Monitor, Pipeline, PubSub

from sandbox_core.addresses import RedisAddress

from .client import connection_pool
from .confinement import Confinement, refusal
from .key_table import BLOCKING, command_name

_SUBSCRIPTIONS = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
_MESSAGES = {"message", "pmessage", "smessage"} | {kind.lower() for kind in _SUBSCRIPTIONS}


def create_confined_client(address: RedisAddress | str, prefix: str, *, client_name: str) -> ConfinedRedis:
    """A client for a worker: every key and channel lies below `prefix`; with "" it is a plain client.

    Close it with `aclose()`. A command that can't be confined raises `InvalidInput` and is not sent. A
    blocking command waits as long as it was asked to, whatever the time limit of the others is.
    """
    client = ConfinedRedis(connection_pool(address, client_name=client_name), Confinement(prefix))
    client.auto_close_connection_pool = True
    return client


class _Confined:
    """What the client and its pipelines share: whatever they make is confined too."""

    confinement: Confinement
    connection_pool: ConnectionPool
    response_callbacks: MutableMapping[str | bytes, Callable[..., Any]]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ConfinedPipeline:
        """As in redis-py; watched keys, queued commands and replies are confined."""
        return ConfinedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint, self.confinement
        )

    def pubsub(self, **kwargs: Any) -> ConfinedPubSub:
        """As in redis-py; channels and patterns lie below the prefix, messages name them without it."""
        return ConfinedPubSub(self.connection_pool, confinement=self.confinement, **kwargs)

    def client(self) -> ConfinedRedis:
        """As in redis-py: a client with one connection of its own."""
        return ConfinedRedis(self.connection_pool, self.confinement, single_connection_client=True)

    def monitor(self) -> Monitor:
        """Refused with a prefix: it shows everybody's commands."""
        if self.confinement:
            raise refusal("MONITOR", "it shows everybody's commands", "`redis.pubsub()`")
        return Monitor(self.connection_pool)


class ConfinedRedis(_Confined, Redis):  # type: ignore[misc]
    """redis-py's client below one prefix; make it with `create_confined_client`."""

    def __init__(
        self, pool: ConnectionPool, confinement: Confinement, *, single_connection_client: bool = False
    ) -> None:
        super().__init__(connection_pool=pool, single_connection_client=single_connection_client)
        self.confinement = confinement

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command, confined. Raises `InvalidInput` for one that can't be."""
        confined = self.confinement.confine(args)
        reply = await super().execute_command(*confined, **options)  # type: ignore[no-untyped-call]
        return self.confinement.undo(confined, reply)

    async def parse_response(self, connection: Any, command_name: str | bytes, **options: Any) -> Any:
        """As in redis-py, without a time limit for commands that were asked to wait."""
        name = command_name.decode("latin-1") if isinstance(command_name, bytes) else command_name
        if name.upper() not in BLOCKING:
            return await super().parse_response(connection, command_name, **options)
        limit, connection.socket_timeout = connection.socket_timeout, None
        try:
            return await super().parse_response(connection, command_name, **options)
        finally:
            connection.socket_timeout = limit


class ConfinedPipeline(_Confined, Pipeline):  # type: ignore[misc]
    """redis-py's pipeline below one prefix."""

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
        """WATCH, and what is read between it and MULTI."""
        confined = self.confinement.confine(args)
        reply = await super().immediate_execute_command(  # type: ignore[no-untyped-call]
            *confined, **options
        )
        return self.confinement.undo(confined, reply)

    def pipeline_execute_command(self, *args: Any, **options: Any) -> ConfinedPipeline:
        """Queue a command, confined. Raises `InvalidInput` at once for one that can't be."""
        confined = self.confinement.confine(args)
        super().pipeline_execute_command(*confined, **options)  # type: ignore[no-untyped-call]
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what is queued."""
        queued = [args for args, _ in self.command_stack]
        replies = await super().execute(raise_on_error)
        return [self.confinement.undo(args, reply) for args, reply in zip(queued, replies, strict=True)]


class ConfinedPubSub(PubSub):
    """redis-py's subscriptions below one prefix. It remembers names as its caller gave them."""

    def __init__(self, pool: ConnectionPool, *, confinement: Confinement, **kwargs: Any) -> None:
        super().__init__(pool, **kwargs)
        self.confinement = confinement

    async def execute_command(self, *args: Any) -> None:
        """Send a subscription, confined. Raises `InvalidInput` for any other command but PING."""
        if self.confinement:
            name = command_name(args)
            if name in _SUBSCRIPTIONS:
                args = (args[0], *(self.confinement.add(channel) for channel in args[1:]))
            elif name != "PING":
                raise refusal(name, "it is not a subscription", "`redis.execute_command(…)`")
        await super().execute_command(*args)

    async def handle_message(self, response: Any, ignore_subscribe_messages: bool = False) -> Any:
        """As in redis-py, with channels and patterns as they were subscribed to."""
        if isinstance(response, list | tuple):
            kind = response[0].decode() if isinstance(response[0], bytes) else response[0]
            if kind in _MESSAGES:
                # The last word is the payload, or the number of subscriptions.
                names = [self.confinement.strip(name) for name in response[1:-1]]
                response = [response[0], *names, response[-1]]
        return await super().handle_message(  # type: ignore[no-untyped-call]
            response, ignore_subscribe_messages
        )
