"""Production's calls about commands: they do not see, and do not remove, what is not production's.

All who use the bot's token share its lists of commands. A library of production's that replaces a whole list
would remove our own `/sandbox`, and in a sandbox's server the commands of the sandbox. So these are taken out
of what production is shown, and put back into what it writes. Where production names one of them itself, it
is production's from then on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.guild_commands import OWN, Json, is_sandboxs, key_of, lock_name
from sandbox_core.postgres import commands as table
from sandbox_core.postgres.commands import Key, Written
from sandbox_core.postgres.pool import Connection, Pool, connected
from sandbox_gateway.guard.answers import limited
from sandbox_gateway.guard.bodies import refuse_encoded
from sandbox_gateway.guard.passing import ProductionCall, answered
from sandbox_gateway.upstream import Upstream, UpstreamAnswer

_log = structlog.get_logger("sandbox.commands")

_LOCK_WITHIN = 10.0
_AT_ONCE = 2
"""Calls about servers' commands at the same time; each keeps a connection."""
_OF_DISCORD = frozenset({"application_id", "guild_id", "version"})
_LISTS = frozenset({"list_application_commands", "list_guild_application_commands"})
_REPLACES = frozenset({"bulk_set_application_commands", "bulk_set_guild_application_commands"})
_CREATES = frozenset({"create_guild_application_command"})


@dataclass(frozen=True, slots=True)
class _Scope:
    """The commands of one server, or the global ones; nobody of ours writes them meanwhile."""

    guild_id: str | None
    rows: Mapping[Key, Written]
    """The sandboxes' in it."""
    connection: Connection | None
    """None without PostgreSQL, or for the global ones."""

    def keeps(self, command: Json) -> bool:
        """Whether the command is not production's."""
        key = key_of(command)
        return key in OWN or is_sandboxs(self.rows.get(key), command)

    async def taken(self, keys: set[Key]) -> None:
        """Production is about to write these itself.

        Noted before: a process that dies right after Discord has done it would leave them to be removed with
        the sandbox. What Discord perhaps has not done is left alone, too.
        """
        await self._note([Written(*row.key, None, row.known_id, row.digest, True) for row in self._of(keys)])

    async def given_back(self, keys: set[Key]) -> None:
        """Discord has refused that."""
        await self._note(self._of(keys))

    def _of(self, keys: set[Key]) -> list[Written]:
        return [row for key, row in self.rows.items() if key in keys and not row.others]

    async def _note(self, rows: Sequence[Written]) -> None:
        if self.connection is None or self.guild_id is None or not rows:
            return
        try:
            await table.note(self.connection, self.guild_id, rows)
        except DependencyUnavailable as error:
            # Production does not wait for PostgreSQL.
            _log.warning("commands_not_noted", guild_id=self.guild_id, reason=error.reason)


class ProductionCommands:
    """See `CommandLists`."""

    def __init__(self, pool: Pool, upstream: Upstream) -> None:
        self._pool = pool
        self._upstream = upstream
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def answer(self, request: web.Request, call: ProductionCall) -> web.StreamResponse | None:
        """See `CommandLists`."""
        if call.matched is None:
            return None
        operation = call.matched.rule.operation
        if operation not in _LISTS | _REPLACES | _CREATES:
            return None
        refuse_encoded(request)
        guild_id = call.matched.values.get("guild_id")
        # It is read before anybody waits for it.
        body = await request.read() if request.body_exists else None
        async with self._scope(guild_id) as scope:
            if operation in _LISTS:
                return _without(await self._send(request.method, call, call.path, body), scope.keeps)
            if operation in _CREATES:
                return await self._create(request.method, call, scope, body)
            return await self._replace(call, scope, body)

    async def _create(
        self, method: str, call: ProductionCall, scope: _Scope, body: bytes | None
    ) -> web.Response:
        named = {key_of(each) for each in _commands_in(b"[%b]" % (body or b"")) or ()}
        await scope.taken(named)
        answer = await self._send(method, call, call.path, body)
        if _is_refused(answer):
            await scope.given_back(named)
        return answered(answer)

    async def _replace(self, call: ProductionCall, scope: _Scope, body: bytes | None) -> web.Response:
        wanted = _commands_in(body)
        if wanted is None:
            # Whatever Discord says to that.
            return answered(await self._send("PUT", call, call.path, body))
        path = call.path.partition("?")[0]
        listed = await self._send("GET", call, f"{path}?with_localizations=true", None)
        found = _commands_in(listed.body) if listed.status == 200 else None
        if found is None:
            return answered(listed)
        named = {key_of(each) for each in wanted}
        kept = [each for each in found if scope.keeps(each) and key_of(each) not in named]
        if kept:
            bodies = [
                {name: value for name, value in each.items() if name not in _OF_DISCORD} for each in kept
            ]
            body = json.dumps([*wanted, *bodies]).encode()
            _log.info("commands_kept", guild_id=scope.guild_id, commands=len(kept))
        await scope.taken(named)
        answer = await self._send("PUT", call, call.path, body)
        if _is_refused(answer):
            await scope.given_back(named)
        if answer.status >= 400:
            return answered(answer)
        keys = {key_of(each) for each in kept}
        return _without(answer, lambda each: key_of(each) in keys)

    async def _send(self, method: str, call: ProductionCall, path: str, body: bytes | None) -> UpstreamAnswer:
        headers = call.headers.copy()
        if body is None:
            headers.popall("Content-Type", None)
        async with self._upstream.pass_on(
            method, path, headers=headers, body=body, version=call.version, authorized=True
        ) as answer:
            return UpstreamAnswer(answer.status, answer.headers, await answer.body())

    @asynccontextmanager
    async def _scope(self, guild_id: str | None) -> AsyncIterator[_Scope]:
        if guild_id is None:
            yield _Scope(None, {}, None)
            return
        async with self._turns, AsyncExitStack() as stack:
            connection, rows, locked = None, list[Written](), True
            try:
                connection = await stack.enter_async_context(connected(self._pool))
                locked = await table.lock(connection, lock_name(guild_id), within=_LOCK_WITHIN)
                rows = await table.written(connection, guild_id)
            except DependencyUnavailable as error:
                # Production does not wait for PostgreSQL; what a sandbox loses by it is put back later.
                _log.warning("commands_not_kept", guild_id=guild_id, reason=error.reason)
                connection = None
            if not locked:
                raise limited(1.0, "commands_busy")
            yield _Scope(guild_id, {row.key: row for row in rows}, connection)


def _is_refused(answer: UpstreamAnswer) -> bool:
    """Whether Discord has certainly changed nothing; after an error of its own that is not sure."""
    return 400 <= answer.status < 500


def _commands_in(body: bytes | None) -> list[Json] | None:
    """Return the commands of a list; None for what is none."""
    try:
        found = json.loads(body or b"")
        if not isinstance(found, list) or not all(
            isinstance(each, dict) and "name" in each for each in found
        ):
            return None
        for each in found:
            key_of(each)
    except (TypeError, ValueError):
        return None
    return found


def _without(answer: UpstreamAnswer, hidden: Callable[[Json], bool]) -> web.Response:
    found = _commands_in(answer.body) if answer.status == 200 else None
    if found is None or not any(map(hidden, found)):
        return answered(answer)
    return answered(answer, json.dumps([each for each in found if not hidden(each)]).encode())
