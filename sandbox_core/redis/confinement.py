"""Confines Redis commands to one key prefix: adds it to commands, and removes it from replies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox_core.errors import InvalidInput

from . import key_table
from .encoding import ENCODING_ERRORS
from .key_table import CHANNELS, KEYS, NotConfinable, command_name, text

_PREFIX = re.compile(r"[A-Za-z0-9:_-]+\Z")
_NOTIFICATIONS = (b"__keyspace@", b"__keyevent@")

_NOT_IN_TABLE = "it can't be kept inside the sandbox's keys"
_INSTEAD = {
    "KEYS": "`redis.scan_iter(match=…)`",
    "DBSIZE": "counting what `redis.scan_iter()` gives",
    "RANDOMKEY": "choosing from what `redis.scan_iter()` gives",
    "FLUSHDB": "`redis.unlink(key)` for each key of `redis.scan_iter()`",
    "FLUSHALL": "`redis.unlink(key)` for each key of `redis.scan_iter()`",
    "SORT": "`redis.sort(name)` without patterns",
    "SORT_RO": "`redis.sort(name)` without patterns",
    "MOVE": "another key name instead of another database",
    "SELECT": "another key name instead of another database",
    "SUBSCRIBE": "`redis.pubsub()`",
    "PSUBSCRIBE": "`redis.pubsub()`",
    "SSUBSCRIBE": "`redis.pubsub()`",
    **dict.fromkeys(
        ("EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO", "FUNCTION", "SCRIPT"),
        "`redis.transaction(…)`, or `redis.lock(…)`",
    ),
    "MULTI": "`redis.pipeline()`",
    "EXEC": "`redis.pipeline()`",
}


class Confinement:
    """Applies one prefix to commands, names and replies.

    An empty prefix changes nothing.
    """

    def __init__(self, prefix: str) -> None:
        if prefix and not _PREFIX.match(prefix):
            # A glob character in the prefix would make patterns match keys of others.
            raise ValueError("the prefix may have letters, digits, ':', '_' and '-' only")
        self.prefix = prefix
        self._bytes = prefix.encode()

    def __bool__(self) -> bool:
        return bool(self.prefix)

    def add(self, name: Any) -> Any:
        """Return a key, channel or pattern with the prefix.

        Raises `InvalidInput` for a value that is no name, and for the server's notification channels, which
        report all keys.
        """
        if isinstance(name, bytes | bytearray | memoryview):
            return self._bytes + self._checked(bytes(name))
        if isinstance(name, str):
            self._checked(name.encode(errors=ENCODING_ERRORS))
            return self.prefix + name
        if isinstance(name, int | float) and not isinstance(name, bool):
            return f"{self.prefix}{name!r}"
        raise refusal(type(name).__name__, "a key has to be str, bytes or a number", '`redis.get("xp")`')

    def strip(self, name: Any) -> Any:
        """Return the name without the prefix; other values unchanged."""
        if isinstance(name, bytes):
            return name.removeprefix(self._bytes)
        return name.removeprefix(self.prefix) if isinstance(name, str) else name

    def confine(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """Return the command with prefixed keys and channels. Raises `InvalidInput` when that is unsafe."""
        if not self.prefix:
            return tuple(args)
        head, words = _split(args)
        name = command_name(words)
        try:
            if name in key_table.PATTERNS:
                changed = self._narrow(name, words)
            else:
                finder = KEYS.get(name) or CHANNELS.get(name)
                if finder is None:
                    raise NotConfinable(_NOT_IN_TABLE)
                changed = list(words)
                for position in finder(words):
                    changed[position] = self.add(words[position])
        except NotConfinable as error:
            instead = _INSTEAD.get(name.split(" ", 1)[0], "`GET`, `MSET`, `SCAN` or `ZUNION`")
            raise refusal(name, str(error), instead) from None
        if changed[:head] == words[:head]:
            # Keep the name unchanged: redis-py finds the reply's parser by it.
            return (args[0], *changed[head:])
        return tuple(changed)

    def undo(self, args: Sequence[Any], reply: Any) -> Any:
        """Return the parsed reply to a confined command, with the names in it without the prefix."""
        if not self.prefix or not reply or isinstance(reply, Exception):
            return reply
        name = command_name(_split(args)[1])
        if name == "SCAN":
            cursor, keys = reply
            return cursor, [self.strip(key) for key in keys]
        if name in _NAME_FIRST:
            return type(reply)([self.strip(reply[0]), *reply[1:]])
        if name in {"XREAD", "XREADGROUP"}:
            if isinstance(reply, Mapping):
                return {self.strip(stream): entries for stream, entries in reply.items()}
            return [[self.strip(stream), *entries] for stream, *entries in reply]
        if name in {"PUBSUB CHANNELS", "PUBSUB SHARDCHANNELS"}:
            return [self.strip(channel) for channel in reply]
        if name in {"PUBSUB NUMSUB", "PUBSUB SHARDNUMSUB"}:
            return _numbers(self, reply)
        return reply

    def _narrow(self, name: str, words: Sequence[Any]) -> list[Any]:
        changed = list(words)
        if name != "SCAN":
            return [*changed[:2], *([self.add(pattern) for pattern in changed[2:]] or [f"{self.prefix}*"])]
        matched = False
        for position in range(2, len(words), 2):
            option = text(words[position])
            if option not in {"MATCH", "COUNT", "TYPE"}:
                raise NotConfinable(f"its option {option} is not known")
            if option == "MATCH" and position + 1 < len(words):
                changed[position + 1] = self.add(words[position + 1])
                matched = True
        return changed if matched else [*changed, "MATCH", f"{self.prefix}*"]

    @staticmethod
    def _checked(name: bytes) -> bytes:
        if name.startswith(_NOTIFICATIONS):
            raise refusal("keyspace notification", "it reports the keys of all clients", "`redis.publish(…)`")
        return name


_NAME_FIRST = {"BLPOP", "BRPOP", "BZPOPMAX", "BZPOPMIN", "BLMPOP", "BZMPOP", "LMPOP", "ZMPOP"}


def refusal(command: str, problem: str, instead: str) -> InvalidInput:
    """Return the error for a command that is not sent, without its arguments: they may be secrets."""
    return InvalidInput("Redis command", command, problem, instead)


def _split(args: Sequence[Any]) -> tuple[int, list[Any]]:
    """Return a command's words, and how many of them redis-py has joined in the first argument."""
    first = args[0] if args else ""
    # Split at ASCII white space, as redis-py's own packer does.
    head = (first if isinstance(first, bytes) else str(first).encode(errors=ENCODING_ERRORS)).split()
    if not head:
        raise refusal("", "it has no name", '`redis.execute_command("GET", key)`')
    return len(head), [*(word.decode(errors=ENCODING_ERRORS) for word in head), *args[1:]]


def _numbers(confinement: Confinement, reply: Any) -> Any:
    if isinstance(reply, Mapping):
        return {confinement.strip(channel): count for channel, count in reply.items()}
    if isinstance(reply[0], list | tuple):
        return [(confinement.strip(channel), count) for channel, count in reply]
    return [item if position % 2 else confinement.strip(item) for position, item in enumerate(reply)]
