"""The positions of the keys in Redis commands.

Only commands in this table can be confined to a key prefix. The others have no keys (`FLUSHALL`, `CONFIG`,
`CLIENT`), read the keys of all clients (`KEYS`, `DBSIZE`, `INFO`), move keys to a place without the prefix
(`MOVE`, `MIGRATE`, `SWAPDB`), or run a script, which can build any key name. Only the scripts of redis-py's
lock are known: they use only the key in their arguments.

The positions come from https://valkey.io/commands; a test compares each with the server's `COMMAND GETKEYS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.lock import Lock

Finder = Callable[[Sequence[Any]], "list[int]"]
"""Takes a command's words, its name first, and returns the positions of the keys."""


class NotConfinable(ValueError):
    """The keys of the command are not certain. The text says why."""


def text(word: Any) -> str:
    """Return a word in capitals: the server ignores the case of names and options."""
    if isinstance(word, bytes | bytearray | memoryview):
        return bytes(word).decode("latin-1").upper()
    return str(word).upper()


@dataclass(frozen=True)
class Fixed:
    """The words at fixed positions."""

    positions: tuple[int, ...]

    def __call__(self, words: Sequence[Any]) -> list[int]:
        """Return the positions of the keys."""
        return [position for position in self.positions if position < len(words)]


@dataclass(frozen=True)
class Rest:
    """The words from `start` on: each, each `step`-th, or without the last `but_last`."""

    start: int = 1
    step: int = 1
    but_last: int = 0

    def __call__(self, words: Sequence[Any]) -> list[int]:
        """Return the positions of the keys."""
        return list(range(self.start, len(words) - self.but_last, self.step))


def at(*positions: int) -> Finder:
    """The words at fixed positions."""
    return Fixed(positions)


def counted(at_word: int, *, before: tuple[int, ...] = (), step: int = 1) -> Finder:
    """Find as many keys as the word at `at_word` says, directly after it; `before` are keys, too."""

    def find(words: Sequence[Any]) -> list[int]:
        try:
            count = int(text(words[at_word]))
        except (IndexError, ValueError) as error:
            raise NotConfinable("its number of keys is not a number") from error
        found = range(at_word + 1, at_word + 1 + count * step, step)
        if count < 0 or (count and found[-1] >= len(words)):
            raise NotConfinable("it has fewer keys than it says")
        return [*before, *found]

    return find


def _streams(start: int) -> Finder:
    """Find the keys of XREAD: options, then STREAMS, the keys, and as many ids."""

    def find(words: Sequence[Any]) -> list[int]:
        position = start
        # Word by word: a group or a consumer may also have the name STREAMS.
        while position < len(words) and (word := text(words[position])) != "STREAMS":
            if word not in {"COUNT", "BLOCK", "CLAIM", "NOACK"}:
                raise NotConfinable(f"its option {word} is not known")
            position += 1 if word == "NOACK" else 2
        names = range(position + 1, len(words))
        return list(names[: len(names) // 2])

    return find


def _read_group(words: Sequence[Any]) -> list[int]:
    if len(words) < 2 or text(words[1]) != "GROUP":
        raise NotConfinable("GROUP has to come first")
    return _streams(4)(words)


def _sort(words: Sequence[Any]) -> list[int]:
    found, position = [1], 2
    while position < len(words):
        option = text(words[position])
        value = text(words[position + 1]) if position + 1 < len(words) else ""
        if option == "STORE":
            found.append(position + 1)
        elif (option == "BY" and "*" in value) or (option == "GET" and value != "#"):
            raise NotConfinable("BY and GET patterns read keys that are not named")
        elif option not in {"BY", "GET", "LIMIT", "ASC", "DESC", "ALPHA"}:
            raise NotConfinable(f"its option {option} is not known")
        position += {"LIMIT": 3, "BY": 2, "GET": 2, "STORE": 2}.get(option, 1)
    return [position for position in found if position < len(words)]


def _copy(words: Sequence[Any]) -> list[int]:
    if any(text(word) == "DB" for word in words[3:]):
        raise NotConfinable("DB copies into another database")
    return at(1, 2)(words)


def _radius(options_from: int) -> Finder:
    """Find the keys of GEORADIUS and GEORADIUSBYMEMBER: the first, and those after STORE and STOREDIST."""

    def find(words: Sequence[Any]) -> list[int]:
        stored = [
            position + 1
            for position in range(options_from, len(words) - 1)
            if text(words[position]) in {"STORE", "STOREDIST"}
        ]
        return [*at(1)(words), *stored]

    return find


LOCK_SCRIPTS = {
    hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest(): script
    for script in (Lock.LUA_RELEASE_SCRIPT, Lock.LUA_EXTEND_SCRIPT, Lock.LUA_REACQUIRE_SCRIPT)
}
"""The scripts of `redis.lock(…)` by their digests; each uses only KEYS[1]."""


def _run_script(words: Sequence[Any]) -> list[int]:
    if len(words) < 2 or text(words[1]).lower() not in LOCK_SCRIPTS:
        raise NotConfinable(_ANY_NAME)
    return counted(2)(words)


def _load_script(words: Sequence[Any]) -> list[int]:
    if any(script not in LOCK_SCRIPTS.values() for script in words[2:]):
        raise NotConfinable(_ANY_NAME)
    return []


_ANY_NAME = "a script can make up any key name"


def _named(finder: Finder, names: str) -> dict[str, Finder]:
    return dict.fromkeys(names.split(), finder)


_CONTAINERS = {"XGROUP", "XINFO", "OBJECT", "MEMORY", "PUBSUB", "SCRIPT"}

KEYS: dict[str, Finder] = {
    # Commands without keys that show nothing of other clients.
    **_named(at(), "PING ECHO TIME WAIT WAITAOF UNWATCH DISCARD"),
    # Strings, bits, HyperLogLog
    **_named(
        at(1),
        """APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DELIFEQ GET GETBIT GETDEL GETEX GETRANGE
        GETSET INCR INCRBY INCRBYFLOAT PFADD PSETEX SET SETBIT SETEX SETNX SETRANGE STRLEN SUBSTR""",
    ),
    # Keys
    **_named(
        at(1),
        """DUMP EXPIRE EXPIREAT EXPIRETIME PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PTTL RESTORE TTL TYPE""",
    ),
    # Hashes
    **_named(
        at(1),
        """HDEL HEXISTS HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS
        HLEN HMGET HMSET HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX
        HSTRLEN HTTL HVALS""",
    ),
    # Lists and sets
    **_named(
        at(1),
        """LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM RPOP RPUSH RPUSHX
        SADD SCARD SISMEMBER SMEMBERS SMISMEMBER SPOP SRANDMEMBER SREM SSCAN""",
    ),
    # Sorted sets and places
    **_named(
        at(1),
        """ZADD ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX
        ZRANGEBYSCORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX
        ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
        GEOADD GEODIST GEOHASH GEOPOS GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH""",
    ),
    # Streams
    **_named(at(1), "XACK XADD XAUTOCLAIM XCLAIM XDEL XLEN XPENDING XRANGE XREVRANGE XSETID XTRIM"),
    **_named(
        Rest(),
        """DEL EXISTS MGET PFCOUNT PFMERGE SDIFF SDIFFSTORE SINTER SINTERSTORE SUNION SUNIONSTORE TOUCH
        UNLINK WATCH""",
    ),
    **_named(Rest(step=2), "MSET MSETNX"),
    **_named(Rest(but_last=1), "BLPOP BRPOP BZPOPMAX BZPOPMIN"),
    **_named(
        at(1, 2),
        """BLMOVE BRPOPLPUSH GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE""",
    ),
    **_named(counted(1), "LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION"),
    **_named(counted(2), "BLMPOP BZMPOP"),
    **_named(counted(2, before=(1,)), "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE"),
    "MSETEX": counted(1, step=2),
    "BITOP": Rest(2),
    "COPY": _copy,
    "SORT": _sort,
    "SORT_RO": _sort,
    "XREAD": _streams(1),
    "XREADGROUP": _read_group,
    "GEORADIUS": _radius(6),
    "GEORADIUSBYMEMBER": _radius(5),
    "EVALSHA": _run_script,
    "SCRIPT LOAD": _load_script,
    **dict.fromkeys(
        (
            *(f"XGROUP {word}" for word in ("CREATE", "CREATECONSUMER", "DELCONSUMER", "DESTROY", "SETID")),
            *(f"XINFO {word}" for word in ("CONSUMERS", "GROUPS", "STREAM")),
            *(f"OBJECT {word}" for word in ("ENCODING", "FREQ", "IDLETIME", "REFCOUNT")),
            "MEMORY USAGE",
        ),
        at(2),
    ),
}

CHANNELS: dict[str, Finder] = {
    **_named(at(1), "PUBLISH SPUBLISH"),
    "PUBSUB NUMSUB": Rest(2),
    "PUBSUB SHARDNUMSUB": Rest(2),
}

PATTERNS = {"SCAN", "PUBSUB CHANNELS", "PUBSUB SHARDCHANNELS"}
"""Commands with a pattern of names; `Confinement` adds the prefix to it."""

BLOCKING = {
    *("BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN"),
    *("WAIT", "WAITAOF", "XREAD", "XREADGROUP"),
}
"""Blocking commands, which the server may answer late."""


def command_name(words: Sequence[Any]) -> str:
    """Return the name in this table: `GET`, or with a subcommand `XGROUP CREATE`."""
    name = text(words[0])
    return f"{name} {text(words[1])}" if name in _CONTAINERS and len(words) > 1 else name
