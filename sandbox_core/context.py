"""The library for a bot's worker: the same code runs in a sandbox and in production.

    async with SandboxContext.from_env() as ctx:
        async for event in ctx.events("MESSAGE_CREATE"):
            await ctx.redis.incr("messages")
            await ctx.pool.execute(ADD_XP, event.data["author"]["id"])

Without `SANDBOX_ID` in the environment the code uses production's subjects, schema and keys.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError
from redis.asyncio import Redis

from . import subjects
from .addresses import AddressError, NatsAddress, PostgresAddress, RedisAddress
from .errors import DependencyUnavailable, InvalidInput
from .models import Sandbox
from .nats.connection import NatsConnection
from .nats.delivered import Event, event_of
from .nats.errors import translating
from .postgres import Pool, create_pool
from .redis.confined import create_confined_client
from .settings import TAKES, SettingsError, cant_be_used
from .subjects import DEFAULT_NAMES, StreamNames
from .words import storable

__all__ = ["Event", "SandboxContext", "Servers", "World", "environment"]

_log = structlog.get_logger("sandbox.context")

_SUBJECT_TAIL = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
_CONSUMER_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_FETCH_SECONDS = 5.0
_JETSTREAM_TIMEOUT = 3.0
_RETRY_SECONDS = 0.5
_ACK_WAIT_SECONDS = 60.0
# In the order of the fields of `StreamNames`.
_NAMES = {
    "NATS_EVENTS_STREAM": (subjects.EVENTS_STREAM, subjects.is_stream_name),
    "NATS_EVENTS_PREFIX": (subjects.EVENTS_PREFIX, subjects.is_production_prefix),
    "NATS_SANDBOX_STREAM": (subjects.SANDBOX_STREAM, subjects.is_stream_name),
}
_CONSUMER_REFUSED = 10012  # JetStream's JSConsumerCreateErr: it exists with other options; a retry is useless


_Address = TypeVar("_Address", PostgresAddress, RedisAddress, NatsAddress)


def environment(sandbox: Sandbox, names: StreamNames = DEFAULT_NAMES) -> dict[str, str]:
    """Return the variables for a worker in the sandbox; none of them is a secret.

    The stream's name is among them only if it is not the default.
    """
    stream = {"NATS_SANDBOX_STREAM": names.sandbox} if names.sandbox != subjects.SANDBOX_STREAM else {}
    return {
        "SANDBOX_ID": str(sandbox.id),
        "SANDBOX_NAME": sandbox.name,
        "SANDBOX_SCHEMA": sandbox.schema_name,
        "SANDBOX_REDIS_PREFIX": subjects.redis_prefix(sandbox.id),
        "SANDBOX_NATS_PREFIX": subjects.nats_prefix(sandbox.id),
        "SANDBOX_GUILD_IDS": ",".join(sandbox.guild_ids),
        **stream,
    }


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of the three servers."""

    database: PostgresAddress
    redis: RedisAddress
    nats: NatsAddress


@dataclass(frozen=True, slots=True)
class World:
    """The sandbox of a worker, or production, which has no id and empty prefixes."""

    sandbox_id: str | None = None
    name: str | None = None
    schema: str | None = None
    """None means the role's `search_path`."""
    redis_prefix: str = ""
    nats_prefix: str = ""
    guild_ids: tuple[str, ...] = ()
    names: StreamNames = DEFAULT_NAMES
    """The names of the streams, and the prefix of production's events."""

    @property
    def stream(self) -> str:
        """The JetStream stream with this world's events."""
        return self.names.events if self.sandbox_id is None else self.names.sandbox

    def event_subjects(self, *types: str) -> list[str]:
        """Return the subjects of these event types, or of all. Raises `InvalidInput` for an invalid type."""
        if self.sandbox_id is None:
            return [self.names.production_subject(kind) for kind in types] or [self.names.production_events]
        return [subjects.sandbox_subject(self.sandbox_id, kind) for kind in types] or [
            subjects.sandbox_events(self.sandbox_id)
        ]


class SandboxContext:
    """A worker's PostgreSQL pool, Redis client and NATS connection, all in one sandbox or in production.

    Use it as an async context manager: entering connects, leaving closes. Entering raises
    `DependencyUnavailable` when a server is away, and `LoginRefused` when a server refuses the login.
    """

    pool: Pool
    """Its `search_path` is the sandbox's schema."""
    redis: Redis
    """redis-py's client; it adds the sandbox's prefix to every key and channel, and removes it in replies.

    A command that can't be confined to the prefix is not sent and raises `InvalidInput`. This protects only
    against mistakes: code with the server's address can always create another client.
    """

    def __init__(self, world: World, servers: Servers) -> None:
        self.world = world
        self._servers = servers
        self._nats = NatsConnection()
        self._exits = AsyncExitStack()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> SandboxContext:
        """Read the world and the servers' addresses from the environment.

        Raises `SettingsError` with one line per variable that is missing or does not fit the others: a worker
        must not start half in a sandbox.
        """
        source = os.environ if environ is None else environ
        problems: list[str] = []
        database = _address(PostgresAddress.parse, "DATABASE_URL", source, problems)
        redis = _address(RedisAddress.parse, "REDIS_URL", source, problems)
        nats = _address(NatsAddress.parse, "NATS_URL", source, problems)
        world = _world(source, problems)
        if problems or database is None or redis is None or nats is None:
            raise SettingsError(problems)
        servers = Servers(database, redis, nats)
        return cls(world, servers)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            self.pool = await create_pool(
                self._servers.database,
                application_name=f"worker {self.world.name or 'production'}",
                search_path=self.world.schema,
            )
            opened.push_async_callback(self.pool.close)
            self.redis = create_confined_client(
                self._servers.redis, self.world.redis_prefix, client_name="worker"
            )
            opened.push_async_callback(self.redis.aclose)
            opened.push_async_callback(self._nats.close)
            await self._nats.connect(self._servers.nats, name="worker")
            self._exits = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def publish(
        self, subject_tail: str, payload: bytes, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish below the prefix without waiting for an ack.

        `jobs.resize` goes to `sandbox.{id}.jobs.resize` in a sandbox and to `jobs.resize` in production.
        Headers that begin with `Nats-` are left out: they are orders to the server. With an event's own
        headers the server would take the message for a duplicate of that event. Raises `InvalidInput` for a
        tail with wildcards, spaces or empty tokens.
        """
        if not _SUBJECT_TAIL.match(subject_tail):
            raise InvalidInput("subject", subject_tail, "it is not tokens joined by dots", "`jobs.resize`")
        own = {
            storable(name): storable(value)
            for name, value in (headers or {}).items()
            if not name.lower().startswith("nats-")
        }
        with translating():
            await self._nats.client.publish(
                self.world.nats_prefix + subject_tail, payload, headers=own or None
            )

    async def events(
        self, *types: str, consumer: str = "worker", batch: int = 16
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of these types, or of all; it ends only when the caller leaves the loop.

        The request for the next event acknowledges the previous one. An event is delivered again when its
        handling raised, took longer than a minute, or died with its process. `batch` events are fetched in
        advance. When the loop ends in `contextlib.aclosing`, unhandled ones go to other workers at once,
        otherwise after a minute. Workers with the same `consumer` share the events, and a restarted worker
        continues where it stopped. The first start begins in a sandbox with the stored events, in production
        with the next new event.

        It waits for a lost connection or stream; after the context was left it raises
        `DependencyUnavailable`. Raises `InvalidInput` for an invalid name of an event type or a consumer, and
        when a consumer with other options exists that can't be changed.
        """
        config = self._consumer(types, consumer)
        js = self._nats.client.jetstream(timeout=_JETSTREAM_TIMEOUT)
        while True:
            try:
                subscription = await self._subscribe(js, config)
            except DependencyUnavailable as error:
                if self._nats.client.is_closed:
                    # The context was left: no more events can come.
                    raise
                _log.warning("events_wait", reason=error.reason)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            fetched: deque[Msg] = deque()
            try:
                while (messages := await _fetch(subscription, batch)) is not None:
                    fetched.extend(messages)
                    while fetched:
                        yield event_of(fetched[0])
                        with translating():
                            await fetched.popleft().ack()
            finally:
                await _leave(subscription, fetched)
            await asyncio.sleep(_RETRY_SECONDS)

    def _consumer(self, types: tuple[str, ...], consumer: str) -> ConsumerConfig:
        if not _CONSUMER_NAME.match(consumer):
            raise InvalidInput(
                "consumer", consumer, "it is not 1 to 32 of A-Z, a-z, 0-9, _ and -", "`worker`"
            )
        in_sandbox = self.world.sandbox_id is not None
        return ConsumerConfig(
            durable_name=f"{self.world.sandbox_id}-{consumer}" if in_sandbox else consumer,
            filter_subjects=self.world.event_subjects(*types),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_ACK_WAIT_SECONDS,
            deliver_policy=DeliverPolicy.ALL if in_sandbox else DeliverPolicy.NEW,
        )

    async def _subscribe(
        self, js: JetStreamContext, config: ConsumerConfig
    ) -> JetStreamContext.PullSubscription:
        with translating():
            try:
                await js.add_consumer(self.world.stream, config)
            except NotFoundError as error:
                raise DependencyUnavailable("NATS", f"the stream {self.world.stream} is missing") from error
            except APIError as error:
                if error.err_code != _CONSUMER_REFUSED:
                    raise
                problem = f"JetStream refuses it ({error.description})"
                raise InvalidInput("consumer", str(config.durable_name), problem, "`worker-2`") from error
            return await js.pull_subscribe_bind(consumer=config.durable_name, stream=self.world.stream)


def _address(
    parse: Callable[[str], _Address], variable: str, source: Mapping[str, str], problems: list[str]
) -> _Address | None:
    text = source.get(variable)
    if not text:
        problems.append(f"{variable} is not set.")
        return None
    try:
        return parse(text)
    except AddressError as error:
        problems.append(cant_be_used(variable, error))
        return None


def _world(source: Mapping[str, str], problems: list[str]) -> World:
    names = _names(source, problems)
    sandbox_id = source.get("SANDBOX_ID", "")
    if not sandbox_id:
        return World(names=names)
    try:
        expected = {
            "SANDBOX_SCHEMA": subjects.schema_name(sandbox_id[:8]),
            "SANDBOX_REDIS_PREFIX": subjects.redis_prefix(sandbox_id),
            "SANDBOX_NATS_PREFIX": subjects.nats_prefix(sandbox_id),
        }
    except InvalidInput:
        problems.append("SANDBOX_ID is not a sandbox's id: take all variables from `/sandbox connect`.")
        return World()
    for variable, value in expected.items():
        if source.get(variable, value) != value:
            problems.append(f"{variable} is another sandbox's: take all variables from `/sandbox connect`.")
    return World(
        sandbox_id=sandbox_id,
        name=source.get("SANDBOX_NAME") or sandbox_id[:8],
        schema=expected["SANDBOX_SCHEMA"],
        redis_prefix=expected["SANDBOX_REDIS_PREFIX"],
        nats_prefix=expected["SANDBOX_NATS_PREFIX"],
        guild_ids=tuple(part for part in source.get("SANDBOX_GUILD_IDS", "").split(",") if part),
        names=names,
    )


def _names(source: Mapping[str, str], problems: list[str]) -> StreamNames:
    """Read the names from the same variables as the bot's settings."""
    given = []
    for variable, (default, is_right) in _NAMES.items():
        value = source.get(variable) or default
        if not is_right(value):
            problems.append(f"{variable} can't be used: it takes {TAKES[variable]}.")
        given.append(value)
    return StreamNames(*given)


async def _fetch(subscription: JetStreamContext.PullSubscription, batch: int) -> list[Msg] | None:
    """Return the next messages, an empty list after the limit, or None when the consumer is gone."""
    try:
        return await subscription.fetch(batch, timeout=_FETCH_SECONDS)
    except nats.errors.TimeoutError:
        # A consumer that is gone gives the same answer; its information shows the difference.
        try:
            await subscription.consumer_info()
        except (nats.errors.Error, OSError):
            return None
        return []
    except (nats.errors.Error, OSError) as error:
        _log.warning("events_fetch_failed", error=type(error).__name__)
        return None


async def _leave(subscription: JetStreamContext.PullSubscription, unhandled: Iterable[Msg]) -> None:
    try:
        for message in unhandled:
            # Another worker can get it at once, not only after the ack's deadline.
            await message.nak()
        await subscription.unsubscribe()
    except (nats.errors.Error, OSError) as error:
        # The connection is lost, and the subscription with it.
        _log.debug("events_not_given_back", error=type(error).__name__)
