"""Tries what a worker's code could try with its `SandboxContext`, and with the neighbour's names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import asyncpg
from redis import exceptions as rd

from sandbox_core.context import SandboxContext
from sandbox_core.errors import InvalidInput, LoginRefused
from sandbox_core.settings import SettingsError
from sandbox_core.subjects import nats_prefix, sandbox_subject

from .attacks import Attack, CameBack, Tried, judge, kind_of

_HEARS_NOTHING_WITHIN = 0.5
_BORROWED = "with the neighbour's names"
_REFUSED = "refused"
"""What every refusal here counts as: that of `SandboxContext` before it sends, or that of a server."""

Act = Callable[[SandboxContext, Mapping[str, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ContextAttack:
    """What is tried in a context, and whether it ends in a refusal or in an empty answer."""

    what: str
    act: Act
    nothing: bool = False

    def __str__(self) -> str:
        return self.what

    @property
    def row(self) -> Attack:
        """The same as the attacks on servers."""
        return Attack(self.what, (), denied=() if self.nothing else (_REFUSED,), nothing=self.nothing)


def _statement(*statements: str) -> Act:
    async def run(context: SandboxContext, names: Mapping[str, Any]) -> object:
        answer: object = None
        async with context.pool.acquire() as connection:
            for statement in statements:
                answer = await connection.fetch(statement.format_map(names))
        return answer

    return run


def _command(*words: str) -> Act:
    async def run(context: SandboxContext, _names: Mapping[str, Any]) -> object:
        answer: object = await context.redis.execute_command(*words)  # type: ignore[no-untyped-call]
        return answer

    return run


async def _events(context: SandboxContext) -> object:
    try:
        async with asyncio.timeout(_HEARS_NOTHING_WITHIN), aclosing(context.events(consumer="spy")) as events:
            async for event in events:
                return event
    except TimeoutError:
        pass
    return None


async def _published(context: SandboxContext, subject: str) -> object:
    """Publish, and return when the server has answered: it forbids a subject without an answer of its own."""
    await context.publish(subject, b"x", headers={"Nats-Msg-Id": "s:0:2"})
    client = context._nats.client
    await client.flush(timeout=2)
    denied = context._nats.denied
    if denied is not None:
        context._nats.denied = None
        raise denied
    return "published"


OWN: Sequence[ContextAttack] = (
    ContextAttack("read the neighbour's table", _statement("SELECT * FROM {schema}.communities")),
    ContextAttack("write the neighbour's table", _statement("DELETE FROM {schema}.communities")),
    ContextAttack(
        "the neighbour's schema as its own", _statement("SET search_path = {schema}", "TABLE communities")
    ),
    ContextAttack("read the neighbour's key", lambda c, n: c.redis.get(f"{n['prefix']}text"), nothing=True),
    ContextAttack("the names of all keys", _command("RANDOMKEY")),
    ContextAttack("another database of Redis", _command("SELECT", "1")),
    ContextAttack("empty Redis", _command("FLUSHALL", "WRONG")),
    ContextAttack("a setting of Redis", _command("CONFIG", "GET", "maxmemory")),
    ContextAttack("a script", _command("EVAL", "return_1", "0")),
    ContextAttack("every command that runs", _command("MONITOR")),
    ContextAttack("an event of its own", lambda c, n: _published(c, n["event"])),
    ContextAttack("every subject", lambda c, _: _published(c, ">")),
)
"""With the sandbox's own variables."""
BORROWED: Sequence[ContextAttack] = (
    ContextAttack("read a table under the neighbour's name", _statement("TABLE communities")),
    ContextAttack("write a table under the neighbour's name", _statement("DELETE FROM communities")),
    ContextAttack("read a key under the neighbour's name", lambda c, _: c.redis.get("text")),
    ContextAttack("write a key under the neighbour's name", lambda c, _: c.redis.set("text", "x")),
    ContextAttack("publish under the neighbour's name", lambda c, _: _published(c, "x")),
    ContextAttack("events under the neighbour's name", lambda c, _: _events(c), nothing=True),
)
"""With the neighbour's id and names, and the sandbox's own logins: none of these names is secret."""


async def attempt(attack: ContextAttack, context: SandboxContext, names: Mapping[str, Any]) -> CameBack:
    """Return what came back. Raises `DependencyUnavailable` when a server is away."""
    try:
        answer = await attack.act(context, names)
    except (InvalidInput, asyncpg.PostgresError, rd.ResponseError, LoginRefused) as error:
        return CameBack((_REFUSED,), type(error).__name__)
    return CameBack(said=f"it was done, with {kind_of(answer)}", told=bool(answer))


async def attack_with_contexts(
    variables: Mapping[str, str], neighbour: Mapping[str, str], tried: list[Tried]
) -> None:
    """Try everything; `variables` are the attacker's, `neighbour` the neighbour's names, which are no secret.

    Raises `DependencyUnavailable` when a server is away.
    """
    own = variables["SANDBOX_ID"]
    names = {
        "schema": neighbour["SANDBOX_SCHEMA"],
        "prefix": neighbour["SANDBOX_REDIS_PREFIX"],
        "event": sandbox_subject(own, "MESSAGE_CREATE").removeprefix(nats_prefix(own)),
    }
    for group, given, attacks in (
        ("with its own names", variables, OWN),
        (_BORROWED, {**variables, **neighbour}, BORROWED),
    ):
        async with SandboxContext.from_env(given) as context:
            for each in attacks:
                # One by one: what was tried stays known when a server goes away.
                tried.append(judge(group, each.row, await attempt(each, context, names)))  # noqa: PERF401
    row = Attack("start with the neighbour's id alone", (), denied=(_REFUSED,))
    try:
        SandboxContext.from_env({**variables, "SANDBOX_ID": neighbour["SANDBOX_ID"]})
    except SettingsError:
        tried.append(judge(_BORROWED, row, CameBack((_REFUSED,))))
    else:
        tried.append(judge(_BORROWED, row, CameBack(said="it was let in")))
