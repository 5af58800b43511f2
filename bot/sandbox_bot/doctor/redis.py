"""Checks Redis: the login, the version, no cluster mode, and each command that the bot uses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.redis.errors import translating

from .findings import Look
from .places import Place
from .redis_commands import COMMANDS, KEYS, Tried, Word, denied, try_commands, word_of
from .versions import judge_version

_MINIMUM = (7,)
_KEEP = "Then make it permanent: `ACL SAVE` with a file of users, else the same words in the configuration."


async def look_at_redis(core: Core, look: Look, place: Place) -> None:
    """Try everything that the bot does there, on temporary keys."""
    user = place.user
    began = time.perf_counter()
    try:
        with translating():
            await core.redis.ping()
    except DependencyUnavailable as error:
        if not _not_let_in(look, place, error.__cause__):
            raise
        return
    look.ok(f"it answers, in {(time.perf_counter() - began) * 1000:.0f} ms")
    about = await _about(core.redis, look, user)
    if not _usable(look, about):
        return
    with translating():
        tried = await try_commands(core.redis)
    _judge(look, user, tried)


async def _about(redis: Redis, look: Look, user: str) -> Mapping[str, Any]:
    """Return the server's INFO; empty when the user may not read it."""
    about: dict[str, Any] = {}
    try:
        with translating():
            for section in ("server", "replication", "cluster", "memory"):
                about |= await redis.info(section)
    except DependencyUnavailable as error:
        unknown = "its version and its mode are unknown"
        if isinstance(error.__cause__, rd.NoPermissionError):
            who = "As an administrator:"
            look.note(f"{unknown}: the user may not run INFO", who, [acl(user, ["+info"])])
        elif isinstance(error.__cause__, rd.ResponseError):
            look.note(f"{unknown}: {error.__cause__}")
        else:
            raise
    return about


def _usable(look: Look, about: Mapping[str, Any]) -> bool:
    """Check version and mode. Return False when trying the commands would show nothing new."""
    if about:
        valkey, spoken = about.get("valkey_version"), str(about.get("redis_version", "0"))
        shown = f"Valkey {valkey}, as Redis {spoken}" if valkey else ""
        judge_version(look, spoken, _MINIMUM, "Redis 7 or newer, or Valkey, is needed.", shown=shown)
    if about.get("cluster_enabled"):
        _cluster(look)
        return False
    if about.get("role") == "slave" and about.get("slave_read_only", 1):
        primary = f"{about.get('master_host')}:{about.get('master_port')}"
        look.failed("it is a replica, which takes no writes", f"REDIS_URL must name its primary, {primary}.")
        return False
    policy = str(about.get("maxmemory_policy", ""))
    if about.get("maxmemory") and policy.startswith("allkeys"):
        look.note(
            f"with {policy} it may drop any key when its memory is full, also those of sandboxes",
            "To keep sandboxes' keys:",
            ["CONFIG SET maxmemory-policy volatile-lru"],
        )
    return True


def _cluster(look: Look) -> None:
    look.failed(
        "it runs in cluster mode, where one command can't use keys of several slots",
        "REDIS_URL must name a server with `cluster-enabled no` in its configuration.",
    )


def _judge(look: Look, user: str, tried: Tried) -> None:
    if Word.CLUSTER in tried.words:
        _cluster(look)
        return
    _takes_no_writes(look, tried.words)
    if tried.unknown:
        names = ", ".join(name.upper() for name in tried.unknown)
        look.failed(
            f"the command {names} does not exist, or has another name",
            "Take it out of `rename-command` in the server's configuration; use ACLs to limit a user "
            "instead.",
        )
    if tried.denied or tried.keys_denied:
        keys = [f"~{KEYS}"] if tried.keys_denied else []
        may_not = [f"run {', '.join(name.upper().replace('|', ' ') for name in tried.denied)}"]
        what = ", and may not ".join(
            (may_not if tried.denied else []) + ([f"use keys {KEYS}"] if keys else [])
        )
        look.failed(
            f"the user {user} may not {what}",
            f"As an administrator. {_KEEP}",
            [acl(user, [*(f"+{name}" for name in tried.denied), *keys])],
        )
    if other := tried.words.get(Word.OTHER):
        look.failed(f"it refused a command: {other}", "Fix the reason; then run doctor again.")
    if not look.wrong:
        look.ok("every command that the bot uses was tried, on temporary keys")


def _takes_no_writes(look: Look, words: Mapping[Word, str]) -> bool:
    """Say why it takes no writes, if one of the words is a reason for that."""
    if Word.READ_ONLY in words:
        look.failed("it takes no writes: it is a replica", "REDIS_URL must name its primary.")
    if Word.FULL in words:
        look.failed(
            "its memory is full, and it may drop nothing (OOM)",
            "Give it more memory than it has now, for example:",
            ["CONFIG SET maxmemory 1gb"],
        )
    if Word.NO_WRITES in words:
        said = words[Word.NO_WRITES].partition(" script:")[0].rstrip(".")
        mend = "Make room on its disk, or give it the right to write there." if "MISCONF" in said else ""
        look.failed(f"it takes no writes: {said}", mend or "Bring back the servers that it waits for.")
    return bool(words.keys() & {Word.READ_ONLY, Word.FULL, Word.NO_WRITES})


def _not_let_in(look: Look, place: Place, cause: BaseException | None) -> bool:
    """Explain a refused connection if the reason is known. Return False when it is not."""
    match cause:
        case rd.NoPermissionError() if denied(str(cause)):
            # The login failed, so no command can be tried: name every right.
            needed = [name for name in COMMANDS if name != "select" or place.database != "0"]
            look.failed(
                f"the user {place.user} may not {denied(str(cause)).upper().replace('|', ' ')}",
                f"As an administrator, everything that it needs. {_KEEP}",
                [acl(place.user, [*(f"+{name}" for name in needed), f"~{KEYS}"])],
            )
        case rd.ResponseError() if "DB index" in str(cause):
            look.failed(
                f"it has no database {place.database}",
                "End REDIS_URL with the number of a database that exists, such as /0.",
            )
        case rd.ResponseError() if word_of(cause) is Word.CLUSTER:
            _cluster(look)
        case rd.ResponseError() if _takes_no_writes(look, {word_of(cause): str(cause)}):
            pass
        case rd.ResponseError():
            look.failed(f"it refused the connection: {cause}", "REDIS_URL must name Redis 7, or Valkey.")
        case _:
            return False
    return True


def acl(user: str, words: list[str]) -> str:
    """Return the command that gives a user these rights in addition."""
    return f"ACL SETUSER {user} {' '.join(words)}"
