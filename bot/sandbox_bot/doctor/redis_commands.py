"""Tries each Redis command that the bot uses, on temporary keys of each kind."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha1
from typing import Any
from uuid import uuid4

from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_core.redis.route_cache import PUT_SCRIPT
from sandbox_core.sharding.resume_point_keys import SAVE_SCRIPT
from sandbox_core.subjects import ROUTE_KEY_PREFIX, ROUTE_MOMENT_KEY_PREFIX, ROUTE_NULL

COMMANDS = (
    "ping",
    "client|setname",
    "select",
    "get",
    "set",
    "mget",
    "del",
    "unlink",
    "scan",
    "memory|usage",
    "script|load",
    "evalsha",
    "zadd",
    "zmscore",
    "zremrangebyscore",
    "multi",
    "exec",
    "info",
)
"""Every command with its name in ACLs; `select` only when REDIS_URL names another database than 0.

A test compares them with the commands of a sandbox's whole life.
"""
KEYS = "sandbox:*"
"""The pattern of every key, as ACLs write it."""

_SECONDS = 10
_COMMAND = re.compile(r"run the '([^']+)' command")


class Word(Enum):
    """The reason of a refusal that is not a missing right."""

    CLUSTER = "cluster"
    READ_ONLY = "read-only"
    FULL = "full"
    NO_WRITES = "no writes"
    OTHER = "other"


@dataclass(slots=True)
class Tried:
    """The refused commands, with the reasons."""

    denied: list[str] = field(default_factory=list)
    """Commands that the user may not run, with their names in ACLs."""
    keys_denied: bool = False
    unknown: list[str] = field(default_factory=list)
    """Commands that the server does not have."""
    words: dict[Word, str] = field(default_factory=dict)
    """Other refusals, with the server's text."""


async def try_commands(redis: Redis) -> Tried:
    """Try all commands. Raises redis-py's errors when the server is away.

    Keys that can't be removed expire. The scripts are the bot's own, so the server keeps no new script.
    """
    mark = uuid4().hex
    route, moment = f"{ROUTE_KEY_PREFIX}doctor:{mark}", f"{ROUTE_MOMENT_KEY_PREFIX}doctor:{mark}"
    gateway, own = f"sandbox:gateway:doctor:{mark}", f"sandbox:doctor-{mark}:key"
    ranked = f"sandbox:gateway:doctor:{mark}:ranked"
    keys = (route, moment, gateway, own)
    put = ["0", _SECONDS * 1000, "1.0", "1.0", f"1.0 inf {ROUTE_NULL}", ROUTE_NULL, _SECONDS * 1000]
    tried = Tried()

    async def attempt(name: str, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            await work()
        except rd.ResponseError as error:
            _note(tried, name, error)

    await attempt("ping", redis.ping)
    for key in keys:
        await attempt("set", lambda key=key: redis.set(key, "doctor", ex=_SECONDS))  # type: ignore[misc]
    await attempt("get", lambda: redis.get(own))
    await attempt("mget", lambda: redis.mget(keys))
    await attempt("scan", lambda: redis.scan(0, match=KEYS, count=1))
    await attempt("memory|usage", lambda: redis.memory_usage(own))
    for script, names, arguments in (
        (PUT_SCRIPT, (route, moment), put),
        (SAVE_SCRIPT, (gateway,), [_SECONDS, 0, "{}", "doctor", 1, 1]),
    ):
        digest = sha1(script.encode()).hexdigest()  # noqa: S324 (Redis names scripts so)
        await attempt("script|load", lambda script=script: redis.script_load(script))  # type: ignore[misc]
        await attempt(
            "evalsha",
            lambda digest=digest, names=names, arguments=arguments: redis.evalsha(  # type: ignore[misc]
                digest, len(names), *names, *arguments
            ),
        )
    # This key has no expiry; it disappears with its last member.
    await attempt("zadd", lambda: redis.zadd(ranked, {"doctor": 1.0}))
    await attempt("zmscore", lambda: redis.zmscore(ranked, ["doctor"]))
    await attempt("zremrangebyscore", lambda: redis.zremrangebyscore(ranked, 0, 2))
    await attempt("del", lambda: redis.delete(gateway))
    await attempt("unlink", lambda: redis.unlink(*keys, ranked))
    async with redis.client() as single:
        await attempt("multi", lambda: single.execute_command("MULTI"))  # type: ignore[no-untyped-call]
        if "multi" not in (*tried.denied, *tried.unknown):
            await attempt("exec", lambda: single.execute_command("EXEC"))  # type: ignore[no-untyped-call]
        # After a refused EXEC the connection would stay in the transaction.
        if single.connection is not None:
            await single.connection.disconnect()
    return tried


def _note(tried: Tried, name: str, error: rd.ResponseError) -> None:
    said = str(error)
    if isinstance(error, rd.NoScriptError):
        # The refused load is noted already.
        return
    if command := denied(said):
        if command not in tried.denied:
            tried.denied.append(command)
    elif "access a key" in said or "access one of the keys" in said:
        tried.keys_denied = True
    elif "unknown command" in said.lower():
        if name not in tried.unknown:
            tried.unknown.append(name)
    else:
        tried.words.setdefault(word_of(error), said)


def denied(said: str) -> str:
    """Return the command in a refusal for a missing right, with its ACL name; empty for other refusals."""
    found = _COMMAND.search(said)
    return found[1] if found else ""


def word_of(error: rd.ResponseError) -> Word:
    """Return the reason of a refusal."""
    said = str(error)
    if isinstance(error, rd.ClusterError | rd.ClusterCrossSlotError | rd.MovedError | rd.AskError):
        return Word.CLUSTER
    if isinstance(error, rd.ReadOnlyError):
        return Word.READ_ONLY
    if isinstance(error, rd.OutOfMemoryError):
        return Word.FULL
    if re.match(r"NOREPLICAS|MISCONF|MASTERDOWN", said):
        return Word.NO_WRITES
    return Word.OTHER
