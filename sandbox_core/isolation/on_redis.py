"""Tries attacks on Redis and Valkey, with a plain client."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_core.addresses import RedisAddress
from sandbox_core.redis.client import connection_pool, create_client
from sandbox_core.subjects import redis_prefix

from .attacks import Attack, CameBack, Tried, afterwards, kind_of, try_all
from .on_postgres import CLIENT
from .redis_attacks import REDIS

_TREASURE = "treasure"


async def attack_redis(
    own: RedisAddress, other: RedisAddress, tried: list[Tried], *, own_id: UUID, other_id: UUID, bot: str
) -> None:
    """Try everything of `REDIS` with the login `own` against the sandbox of `other`.

    `bot` is the bot's user. Raises when the server goes away.
    """
    prefix = redis_prefix(other_id)
    names = {
        "own": redis_prefix(own_id),
        "own_id": str(own_id),
        "own_user": own.who,
        "other": prefix,
        "other_user": other.who,
        "bot": bot,
        "database": 0 if own.database else 1,
    }
    theirs = create_client(other, client_name=CLIENT)
    try:
        await theirs.set(f"{prefix}text", _TREASURE)
        await theirs.rpush(f"{prefix}list", _TREASURE)
        await theirs.hset(f"{prefix}hash", "field", _TREASURE)
        async with RedisAttacker(own, names) as attacker:
            await try_all(REDIS, attacker.attempt, tried)
        tried.append(afterwards(await _changed(theirs, prefix)))
    finally:
        await theirs.aclose()


async def _changed(theirs: Redis, prefix: str) -> str:
    """Return what is no longer as it was, or ""."""
    there = {
        "its text": (await theirs.get(f"{prefix}text"), _TREASURE),
        "its list": (await theirs.lrange(f"{prefix}list", 0, -1), [_TREASURE]),
        "its hash": (await theirs.hgetall(f"{prefix}hash"), {"field": _TREASURE}),
        "its text's life": (await theirs.ttl(f"{prefix}text"), -1),
    }
    return " and ".join(f"{what} is another" for what, (now, before) in there.items() if now != before)


class RedisAttacker:
    """Tries commands with a sandbox's own login, as raw words: no client adds a prefix to them."""

    def __init__(self, address: RedisAddress, names: Mapping[str, object]) -> None:
        self._pool = connection_pool(address, client_name=CLIENT, repeats=False)
        # In the newer protocol the answer to a subscription is no answer for the client.
        self._pool.connection_kwargs["protocol"] = 2
        self._names = names
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._forget()
        await self._pool.aclose()

    async def attempt(self, attack: Attack) -> CameBack:
        """Return what came back of the attack's last command. Raises when the server is away."""
        *before, last = (text.format_map(self._names).split() for text in attack.tried)
        if self._connection is None:
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        came = CameBack()
        try:
            for words in before:
                await self._asked(words)
            answer = await self._asked(last)
            own = answer == self._names["own_user"]
            came = CameBack(said=f"the server did it, with {kind_of(answer)}", told=bool(answer) and not own)
        except rd.ResponseError as error:
            came = CameBack((said(error),), said(error))
        except rd.AuthenticationError as error:
            came = CameBack((said(error),), said(error))
        finally:
            if before or not came.refusals:
                # It may be in a transaction, or hear a channel.
                await self._forget()
        return came

    async def _asked(self, words: list[str]) -> Any:
        await self._connection.send_command(*words)
        return await self._connection.read_response()

    async def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()
            await self._pool.release(connection)


def said(error: rd.RedisError) -> str:
    """Return the server's text; the client has taken the first word of some away."""
    text = str(error)
    if isinstance(error, rd.NoPermissionError):
        return f"NOPERM {text}"
    if isinstance(error, rd.AuthenticationError):
        return f"WRONGPASS {text}"
    return text if text.startswith("ERR ") else f"ERR {text}"
