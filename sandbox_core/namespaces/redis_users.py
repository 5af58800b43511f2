"""A user of Redis' or Valkey's access lists for each sandbox, confined to the sandbox's keys and channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_core.addresses import RedisAddress
from sandbox_core.credentials import CredentialsKey, redis_hash
from sandbox_core.errors import DependencyUnavailable, IsolationImpossible
from sandbox_core.guests import guest_user, read_user
from sandbox_core.models import Sandbox
from sandbox_core.redis.errors import translating
from sandbox_core.subjects import redis_prefix, sandbox_user

STORE = "Redis"
MINIMUM = (7, 0)
"""Older versions return other users' values to SORT with GET."""
# Everything on keys, but for what names other sandboxes' keys (SCAN, KEYS, RANDOMKEY, PUBSUB), acts on all of
# them (FLUSHALL, SWAPDB), asks about or changes the server, reads raw bytes that may crash it (RESTORE), or
# can block it (scripts). Of the connection's own commands those that client libraries send.
_CLASSES = ("+@all", "-@admin", "-@dangerous", "-@scripting", "-@connection")
_AGAIN = ("sort", "sort_ro", "ping", "echo", "quit", "reset", "hello", "auth")
_OF_CLIENT = ("client|setname", "client|id", "client|getname")
# Redis 7.0 has not this one, and refuses a user with it. Clients go on without it.
_SINCE_7_2 = "+client|setinfo"
_NOT = (
    *("scan", "randomkey", "dbsize", "pubsub", "memory", "cluster", "acl"),
    *("select", "swapdb", "move", "flushdb", "flushall"),
)
_BACK = ("memory|usage", "acl|whoami")
_RULES = (
    *_CLASSES,
    *(f"+{name}" for name in (*_AGAIN, *_OF_CLIENT)),
    *(f"-{name}" for name in _NOT),
    *(f"+{name}" for name in _BACK),
)
# What only takes away, for a sandbox that stores too much: it may make room, and read.
_FULL = (
    "-@write",
    *(f"+{name}" for name in ("del", "unlink", "getdel", "expire", "pexpire", "expireat", "pexpireat")),
    *(
        f"+{name}"
        for name in ("lpop", "rpop", "lrem", "ltrim", "spop", "srem", "hdel", "zrem", "zpopmin", "zpopmax")
    ),
    *(
        f"+{name}"
        for name in ("zremrangebyrank", "zremrangebyscore", "zremrangebylex", "xdel", "xtrim", "xack")
    ),
)
_NOBODY = UUID(int=0)
CONTROL_COMMANDS = ("acl|setuser", "acl|deluser", "acl|list", "info", "memory|usage")
"""What the bot's user needs there for this, with its names in access lists."""


class SandboxUsers:
    """The users `sandbox-{id}`; see `Credentials`. The server has them in memory: a restart forgets them."""

    def __init__(self, redis: Redis, address: RedisAddress, key: CredentialsKey, *, where: str) -> None:
        """`address` is the server's as workers reach it, `where` as the bot does."""
        self._redis = redis
        self._address = address
        self._key = key
        self.where = where

    async def require(self) -> None:
        """Do as `Credentials` documents."""
        about = await self._asked("INFO", "server")
        version = _version(about if isinstance(about, Mapping) else {})
        if version < MINIMUM:
            shown = ".".join(map(str, version))
            raise self._impossible(
                f"it is Redis {shown}, whose access lists let values through",
                "SANDBOX_REDIS_URL must name Redis 7 or newer, or Valkey.",
            )
        # To measure what sandboxes store.
        await self._asked("MEMORY USAGE", redis_prefix(_NOBODY))
        default = next((words for words in await self._users() if words[1] == "default"), [])
        if "on" in default and "nopass" in default:
            raise self._impossible(
                "its user `default` needs no password, so everybody is let in",
                "As an administrator: ACL SETUSER default off, and keep it in the server's configuration.",
            )

    async def make(self, sandbox: Sandbox) -> None:
        """Do as `Credentials` documents."""
        if not self._key.made(sandbox):
            # They have no expiry here.
            return
        users = await self._users_of(sandbox)
        wanted = {_name(sandbox, guest): guest for guest in ("", *sandbox.guests)}
        outdated = [
            name
            for name, words in users.items()
            if name not in wanted or not self._fits(sandbox, wanted[name], words)
        ]
        if outdated:
            # This ends what an older login has connected. A process that dies before the next step leaves no
            # user, which is found; one that had only changed the password would leave the connections.
            await self._asked("ACL DELUSER", *outdated)
        for name, guest in wanted.items():
            await self._set(sandbox, name, guest)

    async def _set(self, sandbox: Sandbox, name: str, guest: str) -> None:
        prefix = redis_prefix(sandbox.id)
        user = (
            name,
            "reset",
            "on",
            f"#{self._hash(sandbox, guest)}",
            f"~{prefix}*",
            f"&{prefix}*",
            *_RULES,
            *(_FULL if sandbox.is_full(STORE) else ()),
            # Some libraries always choose a database; this one is the address's.
            f"+select|{self._address.database}",
        )
        try:
            await self._asked("ACL SETUSER", *user, _SINCE_7_2)
        except DependencyUnavailable as error:
            if f"'{_SINCE_7_2}'" not in str(error.__cause__):
                raise
            await self._asked("ACL SETUSER", *user)

    async def cut(self, _sandbox: Sandbox) -> None:
        """Do nothing: `make` has deleted every user with an older login, which ended its connections."""

    async def revoke(self, sandbox: Sandbox) -> None:
        """Delete the users, which ends their connections."""
        await self._asked("ACL DELUSER", _name(sandbox), *await self._users_of(sandbox))

    async def lacking(self, sandboxes: Collection[Sandbox]) -> set[UUID]:
        """Do as `Credentials` documents."""
        users = await self._users_by_sandbox()
        return {
            sandbox.id
            for sandbox in sandboxes
            if self._key.made(sandbox) and not self._all_fit(sandbox, users.get(str(sandbox.id), {}))
        }

    def _all_fit(self, sandbox: Sandbox, users: Mapping[str, frozenset[str]]) -> bool:
        wanted = {_name(sandbox, guest): guest for guest in ("", *sandbox.guests)}
        return wanted.keys() == users.keys() and all(
            self._fits(sandbox, guest, users[name]) for name, guest in wanted.items()
        )

    def _fits(self, sandbox: Sandbox, guest: str, words: frozenset[str]) -> bool:
        present = {"on", f"#{self._hash(sandbox, guest)}"} <= words
        return present and (_FULL[0] in words) == sandbox.is_full(STORE)

    def variables(self, sandbox: Sandbox, guest: str = "") -> Mapping[str, str]:
        """Return `REDIS_URL`."""
        password = self._key.password(STORE, sandbox, guest)
        return {"REDIS_URL": self._address.url_of(_name(sandbox, guest), password)}

    async def ids(self) -> set[str]:
        """Return the ids of sandboxes with a user."""
        return set(await self._users_by_sandbox())

    def _hash(self, sandbox: Sandbox, guest: str) -> str:
        return redis_hash(self._key.password(STORE, sandbox, guest))

    async def _users_of(self, sandbox: Sandbox) -> Mapping[str, frozenset[str]]:
        """Return the words about the sandbox's user and its guests', by name."""
        return (await self._users_by_sandbox()).get(str(sandbox.id), {})

    async def _users_by_sandbox(self) -> dict[str, dict[str, frozenset[str]]]:
        found: dict[str, dict[str, frozenset[str]]] = {}
        for words in await self._users():
            if (whose := read_user(words[1])) is not None:
                found.setdefault(whose[0], {})[words[1]] = frozenset(words)
        return found

    async def _users(self) -> list[list[str]]:
        """Return the words about each user; the second is its name."""
        answer = await self._asked("ACL LIST")
        lines: Iterable[object] = answer if isinstance(answer, list) else ()
        return [words for line in lines if len(words := str(line).split()) > 1]

    async def _asked(self, *command: str) -> object:
        try:
            with translating():
                return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
        except DependencyUnavailable as error:
            if not isinstance(error.__cause__, rd.NoPermissionError):
                raise
            rights = " ".join(f"+{name}" for name in CONTROL_COMMANDS)
            raise self._impossible(
                f"the bot's user may not run {command[0]}",
                f"As an administrator: ACL SETUSER {self._redis_user} {rights}",
            ) from error

    @property
    def _redis_user(self) -> str:
        options = self._redis.connection_pool.connection_kwargs
        return str(options.get("username") or "default")

    def _impossible(self, problem: str, mend: str) -> IsolationImpossible:
        return IsolationImpossible(STORE, self.where, problem, mend)


def _name(sandbox: Sandbox, guest: str = "") -> str:
    return guest_user(sandbox_user(sandbox.id), guest)


def _version(about: Mapping[str, object]) -> tuple[int, ...]:
    words = str(about.get("redis_version", "0")).split(".")
    return tuple(int(word) for word in words[:2] if word.isdigit())
