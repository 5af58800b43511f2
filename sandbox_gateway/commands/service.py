"""Answers calls about commands out of the sandbox's scopes, and has its servers follow them.

A call is first made true in one server, under the sandbox's lock: what Discord says there of the bodies is
what the bot is answered. Then the scopes are stored, and the keeper brings the other servers after. A process
that dies before has changed nothing but that server, which the keeper brings back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.guild_commands import Answer, Brought, GuildCommands, ServerBusy, wanted_in
from sandbox_core.postgres import commands as table
from sandbox_core.postgres.commands import Command
from sandbox_core.postgres.pool import Connection, Pool, connected
from sandbox_gateway.guard.answers import json_response, limited, missing_access, unavailable
from sandbox_gateway.share import ShareUsed
from sandbox_gateway.tenants import Tenant
from sandbox_gateway.upstream import Upstream, UpstreamAnswer

from . import CommandCall
from .events import use_in, with_command
from .keeping import CommandKeeper
from .rest import ApplicationId, UpstreamCommands
from .scopes import CallRefused, Scope, as_discord_shows, shown

_log = structlog.get_logger("sandbox.commands")

_LOCK_WITHIN = 15.0
_STORED_WITHIN = 2.0
_AT_ONCE = 4
"""Calls that write at the same time; each keeps a connection."""
_SETTLED_WITHIN = 8.0
"""Seconds for which the answer waits for the other servers."""
_NOT_IN_SERVER = frozenset({403, 404})
_FOR_USERS_ONLY = {"message": "Bots cannot use this endpoint", "code": 20001}
_NO_PERMISSIONS = {"message": "Unknown application command permissions", "code": 10066}
_PASSED = ("Content-Type", "Retry-After", "Via")


class SandboxCommands:
    """`Commands` over PostgreSQL and Discord."""

    def __init__(
        self,
        pool: Pool,
        upstream: Upstream,
        keeper: CommandKeeper,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._upstream = upstream
        self._application = ApplicationId(upstream)
        self._keeper = keeper
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def handle(self, tenant: Tenant, call: CommandCall) -> web.StreamResponse:
        """See `Commands`."""
        try:
            if call.operation.endswith("permissions"):
                return await self._permissions(tenant, call)
            if call.operation.startswith(("list_", "get_")):
                return await self._read(tenant, call)
            async with self._turns:
                response, guild_ids = await self._write(tenant, call)
        except CallRefused as refused:
            return refused.response()
        except ServerBusy:
            raise limited(1.0, "commands_busy") from None
        if guild_ids:
            await self._keeper.settled(guild_ids, within=_SETTLED_WITHIN)
        return response

    async def to_client(self, tenant: Tenant, frame: bytes) -> bytes:
        """See `Commands`. While PostgreSQL is away the event passes as it came: it can't wait for ever."""
        use = use_in(frame)
        if use is None:
            return frame
        asked = (tenant.sandbox_id, use.guild_id, use.command_id, use.key)
        try:
            async with connected(self._pool) as connection:
                known = await table.known_as(connection, *asked)
                if known is None:
                    # Somebody may use a command that Discord has, while its id is still being stored here.
                    await table.lock(connection, _writing(tenant), within=_STORED_WITHIN)
                    known = await table.known_as(connection, *asked)
        except DependencyUnavailable as error:
            _log.warning("command_id_not_known", sandbox_id=str(tenant.sandbox_id), reason=error.reason)
            return frame
        return frame if known is None else with_command(frame, *known)

    # -- reading -------------------------------------------------------------

    async def _read(self, tenant: Tenant, call: CommandCall) -> web.Response:
        async with connected(self._pool) as connection:
            found = await table.of_sandbox(connection, tenant.sandbox_id)
        scope, application_id = _scope(found, call), call.values["application_id"]
        if "command_id" in call.values:
            return json_response(200, shown(scope.get(call.values["command_id"]), application_id))
        full = dict(call.query).get("with_localizations", "").lower() in {"true", "1"}
        return json_response(
            200, [shown(each, application_id, localizations=full) for each in scope.commands]
        )

    async def _permissions(self, tenant: Tenant, call: CommandCall) -> web.Response:
        """Answer about the permissions that a server's people gave, under the ids that the bot knows."""
        if call.operation.startswith("set_"):
            return json_response(403, _FOR_USERS_ONLY)
        guild_id, application_id = call.values["guild_id"], call.values["application_id"]
        async with connected(self._pool) as connection:
            rows = await table.written(connection, guild_id)
            mine = {each.id for each in await table.of_sandbox(connection, tenant.sandbox_id)}
        known = {
            row.command_id: row.known_id
            for row in rows
            if row.command_id is not None and not row.others and row.known_id in mine
        }
        rest = self._rest(tenant)
        if "command_id" not in call.values:
            answer = await rest.permissions(guild_id)
            if answer.status != 200:
                return _passed(answer)
            ids = {**known, application_id: application_id}
            return json_response(
                200, [{**each, "id": ids[each["id"]]} for each in answer.value if each.get("id") in ids]
            )
        asked = call.values["command_id"]
        theirs = {**{knows: discords for discords, knows in known.items()}, application_id: application_id}
        if asked not in theirs:
            return json_response(404, _NO_PERMISSIONS)
        answer = await rest.permissions(guild_id, theirs[asked])
        if answer.status != 200:
            return _passed(answer)
        return json_response(200, {**answer.value, "id": asked})

    # -- writing -------------------------------------------------------------

    async def _write(self, tenant: Tenant, call: CommandCall) -> tuple[web.Response, set[str]]:
        """Make the call true. Return the answer, and the servers that are still to follow."""
        async with connected(self._pool) as connection:
            if not await table.lock(connection, _writing(tenant), within=_LOCK_WITHIN):
                raise ServerBusy
            before = await table.of_sandbox(connection, tenant.sandbox_id)
            scope = _scope(before, call)
            status, after, one = _changed(scope, call)
            others = [each for each in before if each.guild_id != scope.guild_id]
            first, brought = await self._make_true(connection, tenant, scope.guild_id, [*others, *after])
            if brought.refused is not None:
                return _passed(brought.refused), set()
            known = {each.id: each for each in scope.commands}
            stored = [
                as_discord_shows(each, brought.shown[each.key])
                if known.get(each.id) != each and each.key in brought.shown
                else each
                for each in after
            ]
            await self._store(connection, tenant, scope.commands, stored)
        application_id = call.values["application_id"]
        rest = set() if scope.guild_id is not None else set(tenant.guild_ids) - {first}
        if status == 204:
            return web.Response(status=204), rest
        if one is None:
            return json_response(status, [shown(each, application_id) for each in stored]), rest
        answered = next(each for each in stored if each.id == one.id)
        return json_response(status, shown(answered, application_id)), rest

    async def _make_true(
        self, connection: Connection, tenant: Tenant, guild_id: str | None, commands: Sequence[Command]
    ) -> tuple[str | None, Brought]:
        """Bring one server to the new scopes: the named one, or for global ones the first that takes them."""
        guilds = GuildCommands(self._pool, self._rest(tenant), clock=self._clock)
        for each in [guild_id] if guild_id is not None else sorted(tenant.guild_ids):
            await guilds.lock(connection, each)
            if await table.holder(connection, each, at=self._clock()) != tenant.sandbox_id:
                if guild_id is not None:
                    raise missing_access()
                continue
            try:
                brought = await guilds.bring(connection, each, wanted_in(commands, each))
            except ShareUsed as used:
                raise limited(used.retry_after, used.reason) from None
            refused = brought.refused
            if refused is None or guild_id is not None or refused.status not in _NOT_IN_SERVER:
                return each, brought
            # A global command is not refused because one server does not take any.
            _log.warning("server_takes_no_commands", guild_id=each, code=refused.code)
        return None, Brought()

    async def _store(
        self, connection: Connection, tenant: Tenant, before: Sequence[Command], after: Sequence[Command]
    ) -> None:
        unchanged = {each.id for each in after if each in before}
        removed = [each.id for each in before if each.id not in {kept.id for kept in after}]
        changed = [each for each in after if each.id not in unchanged]
        if not removed and not changed:
            return
        async with connection.transaction():
            if not await table.store(connection, tenant.sandbox_id, removed, changed):
                raise unavailable("sandbox_ended")

    def _rest(self, tenant: Tenant) -> UpstreamCommands:
        return UpstreamCommands(self._upstream, self._application, sandbox_id=tenant.sandbox_id)


def _scope(found: Sequence[Command], call: CommandCall) -> Scope:
    return Scope.of(found, call.values.get("guild_id"))


def _changed(scope: Scope, call: CommandCall) -> tuple[int, tuple[Command, ...], Command | None]:
    """Return the status of the answer, the scope's new commands, and the one that is answered."""
    match call.operation.split("_")[0]:
        case "bulk":
            return 200, scope.replaced(call.body), None
        case "create":
            after, one, new = scope.with_one(call.body)
            return (201 if new else 200), after, one
        case "update":
            after, one = scope.edited(call.values["command_id"], call.body)
            return 200, after, one
        case "delete":
            return 204, scope.without(call.values["command_id"]), None
    raise unavailable("unknown_operation")


def _passed(answer: Answer) -> web.Response:
    """Return Discord's own answer."""
    raw: Any = answer.raw
    if not isinstance(raw, UpstreamAnswer):
        return json_response(answer.status, answer.value)
    headers = {name: raw.headers[name] for name in _PASSED if name in raw.headers}
    headers |= {name: value for name, value in raw.headers.items() if name.lower().startswith("x-ratelimit-")}
    return web.Response(status=answer.status, body=raw.body, headers=headers)


def _writing(tenant: Tenant) -> str:
    """Name the lock of whoever writes the sandbox's commands."""
    return f"sandbox {tenant.sandbox_id}"
