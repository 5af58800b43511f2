"""A worker's connections, and the world that they are in."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError
from redis.asyncio import Redis

from .. import subjects
from ..addresses import AddressError, NatsAddress, PostgresAddress, RedisAddress
from ..errors import DependencyUnavailable, InvalidInput
from ..models import Sandbox
from ..nats.connection import NatsConnection
from ..nats.dead_letters import UNHANDLED
from ..nats.delivered import Event
from ..nats.errors import translating
from ..plain_tracebacks import show_plain_tracebacks
from ..postgres import Pool, create_pool
from ..redis.confined import create_confined_client
from ..setting_values import cant_be_used
from ..settings import MAX_DELIVERIES, TAKES, SettingsError
from ..subjects import DEFAULT_NAMES, StreamNames
from ..words import storable
from ._dead_letters import DeadLetterBox
from ._events import ACK_WAIT_SECONDS, Events

_SUBJECT_TAIL = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
_CONSUMER_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_JETSTREAM_TIMEOUT = 3.0
# In the order of the fields of `StreamNames`.
_NAMES = {
    "NATS_EVENTS_STREAM": (subjects.EVENTS_STREAM, subjects.is_stream_name),
    "NATS_EVENTS_PREFIX": (subjects.EVENTS_PREFIX, subjects.is_production_prefix),
    "NATS_SANDBOX_STREAM": (subjects.SANDBOX_STREAM, subjects.is_stream_name),
}
_CONSUMER_REFUSED = 10012  # JetStream's JSConsumerCreateErr: it exists with other options; a retry is useless


_Address = TypeVar("_Address", PostgresAddress, RedisAddress, NatsAddress)


def environment(
    sandbox: Sandbox, names: StreamNames = DEFAULT_NAMES, max_deliveries: int = MAX_DELIVERIES
) -> dict[str, str]:
    """Return the variables for a worker in the sandbox; none of them is a secret.

    The stream's name and the number of deliveries are among them only if they are not the defaults.
    `names` counts for a sandbox without an account: with one, its stream's name is no setting's.
    """
    others: dict[str, str] = {}
    if names.sandbox != subjects.SANDBOX_STREAM and not sandbox.generation:
        others["NATS_SANDBOX_STREAM"] = names.sandbox
    if max_deliveries != MAX_DELIVERIES:
        others["SANDBOX_MAX_DELIVERIES"] = str(max_deliveries)
    return {
        "SANDBOX_ID": str(sandbox.id),
        "SANDBOX_NAME": sandbox.name,
        "SANDBOX_SCHEMA": sandbox.schema_name,
        "SANDBOX_REDIS_PREFIX": subjects.redis_prefix(sandbox.id),
        "SANDBOX_NATS_PREFIX": subjects.nats_prefix(sandbox.id),
        "SANDBOX_GUILD_IDS": ",".join(sandbox.guild_ids),
        **others,
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
    has_account: bool = False
    """True where the sandbox has an account of its own on NATS."""
    max_deliveries: int = MAX_DELIVERIES
    """How often an event is delivered before it becomes a dead letter."""

    @property
    def stream(self) -> str:
        """The JetStream stream with this world's events."""
        if self.sandbox_id is None:
            return self.names.events
        return subjects.SLOT_STREAM if self.has_account else self.names.sandbox_stream(self.sandbox_id)

    def event_subjects(self, *types: str) -> list[str]:
        """Return the subjects of these event types, or of all. Raises `InvalidInput` for an invalid type."""
        if self.sandbox_id is None:
            return [self.names.production_subject(kind) for kind in types] or [self.names.production_events]
        return [subjects.sandbox_subject(self.sandbox_id, kind) for kind in types] or [
            subjects.sandbox_events(self.sandbox_id)
        ]

    @property
    def dead_letters(self) -> str:
        """The subject of the events that no delivery was enough for."""
        if self.sandbox_id is None:
            return self.names.dead_letter_subject(UNHANDLED)
        return subjects.sandbox_dead_letter(self.sandbox_id, UNHANDLED)


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
        self._letters = DeadLetterBox(self._nats, world.stream, world.dead_letters)
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
        own = _has_own_nats(source)
        # The sandboxes' stream may have a server of its own.
        in_sandbox = source.get("SANDBOX_ID") and source.get("SANDBOX_NATS_URL") and not own
        variable = "SANDBOX_NATS_URL" if in_sandbox else "NATS_URL"
        nats = _address(partial(NatsAddress.parse, variable=variable), variable, source, problems)
        world = _world(source, problems)
        if problems or database is None or redis is None or nats is None:
            raise SettingsError(problems)
        servers = Servers(database, redis, nats)
        return cls(replace(world, has_account=own), servers)

    async def __aenter__(self) -> Self:
        show_plain_tracebacks()
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

    @property
    def dead_letters(self) -> int:
        """How many events this context has made dead letters of."""
        return self._letters.stored

    def events(
        self, *types: str, consumer: str = "worker", batch: int = 16, max_deliveries: int | None = None
    ) -> Events:
        """Yield the events of these types, or of all; it ends only when the caller leaves the loop.

        The request for the next event acknowledges the previous one. An event is delivered again when its
        handling raised, took longer than a minute, or died with its process. `batch` events are fetched in
        advance, but one at a time while there are any that were delivered before. When the loop ends in
        `contextlib.aclosing`, unhandled ones go to other workers at once, otherwise after a minute. Workers
        with the same `consumer` share the events, and a restarted worker continues where it stopped. The
        first start begins in a sandbox with the stored events, in production with the next new event.

        After `max_deliveries`, by default SANDBOX_MAX_DELIVERIES or 5, an event is not delivered again: it
        becomes a dead letter, and the events behind it come. See `for_each` for a loop that does not end
        when the handling raises.

        It waits for a lost connection or stream; after the context was left it raises
        `DependencyUnavailable`. Raises `InvalidInput` for an invalid name of an event type or a consumer, and
        when a consumer with other options exists that can't be changed.
        """
        limit = self.world.max_deliveries if max_deliveries is None else max_deliveries
        if limit < 1:
            raise InvalidInput("number of deliveries", str(limit), "it is less than 1", "`5`")
        config = self._consumer(types, consumer)
        js = self._nats.client.jetstream(timeout=_JETSTREAM_TIMEOUT)
        return Events(
            lambda: self._subscribe(js, config),
            self._nats,
            self._letters,
            batch=batch,
            max_deliveries=limit,
            wanted=frozenset(self.world.event_subjects(*types)) if len(types) > 1 else None,
        )

    async def for_each(
        self,
        handle: Callable[[Event], Awaitable[object]],
        *types: str,
        consumer: str = "worker",
        batch: int = 16,
        max_deliveries: int | None = None,
    ) -> None:
        """Await `handle` for each event, until cancelled; the arguments are those of `events`.

        An event whose handling raises is logged and delivered again later, each time after a longer pause,
        and becomes a dead letter in the end. The events behind it do not wait for it.
        """
        async with aclosing(
            self.events(*types, consumer=consumer, batch=batch, max_deliveries=max_deliveries)
        ) as events:
            async for event in events:
                try:
                    await handle(event)
                except Exception as error:
                    # Whatever the worker's own code raised: the next event has nothing to do with it.
                    await events.failed(error)

    def _consumer(self, types: tuple[str, ...], consumer: str) -> ConsumerConfig:
        if not _CONSUMER_NAME.match(consumer):
            raise InvalidInput(
                "consumer", consumer, "it is not 1 to 32 of A-Z, a-z, 0-9, _ and -", "`worker`"
            )
        in_sandbox = self.world.sandbox_id is not None
        subjects = self.world.event_subjects(*types)
        name = f"{self.world.sandbox_id}-{consumer}" if in_sandbox else consumer
        if in_sandbox:
            # The sandboxes' server takes one filter only. Of several types the loop sorts the others out.
            one = subjects if len(subjects) == 1 else self.world.event_subjects()
            filters: dict[str, Any] = {"name": name, "filter_subject": one[0]}
        else:
            filters = {"filter_subjects": subjects}
        return ConsumerConfig(
            **filters,
            durable_name=name,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
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
    max_deliveries = _max_deliveries(source, problems)
    sandbox_id = source.get("SANDBOX_ID", "")
    if not sandbox_id:
        return World(names=names, max_deliveries=max_deliveries)
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
        guild_ids=tuple(item for item in source.get("SANDBOX_GUILD_IDS", "").split(",") if item),
        names=names,
        max_deliveries=max_deliveries,
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


def _max_deliveries(source: Mapping[str, str], problems: list[str]) -> int:
    text = source.get("SANDBOX_MAX_DELIVERIES") or str(MAX_DELIVERIES)
    if not (text.isascii() and text.isdigit() and int(text[:9]) >= 1 and len(text) <= 9):
        problems.append(cant_be_used("SANDBOX_MAX_DELIVERIES"))
        return MAX_DELIVERIES
    return int(text)


def _has_own_nats(source: Mapping[str, str]) -> bool:
    """True when `NATS_URL` has the sandbox's own login: the shell's other settings are of another server."""
    sandbox_id = source.get("SANDBOX_ID", "")
    return subjects.is_sandbox_id(sandbox_id) and (
        f"://{subjects.sandbox_user(sandbox_id)}:" in source.get("NATS_URL", "")
    )
