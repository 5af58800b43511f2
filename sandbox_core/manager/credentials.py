"""A sandbox's own logins: shown, rotated, refused, and made again where a server has lost them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import structlog

from sandbox_core.credentials import CredentialsKey
from sandbox_core.errors import DependencyUnavailable, NoCredentials, RotationUnfinished, SandboxError
from sandbox_core.models import Actor, AuditEvent, Sandbox
from sandbox_core.namespaces import Credentials
from sandbox_core.postgres import Connection, audit, sandboxes, transaction

from . import guilds, rules
from .ports import Changed, TeardownTools, Tools

T = TypeVar("T")
_log = structlog.get_logger("sandbox.manager")

_WITHIN = 3.0
"""The limit in seconds for one store; a transaction of the bot may wait for it, which lasts 5 s at most."""


def every(tools: TeardownTools) -> list[tuple[str, Credentials]]:
    """Return the logins of each store that has some."""
    return [(each.store, found) for each in tools.namespaces if (found := each.credentials) is not None]


async def require(tools: Tools) -> None:
    """Raise `IsolationImpossible` when the settings lack a server, or one can't keep sandboxes apart."""
    if (lacking := tools.hindrance()) is not None:
        raise lacking
    for store, each in every(tools):
        await _bounded(store, each.require())


def variables(tools: Tools, sandbox: Sandbox, guest: str = "") -> dict[str, str]:
    """Return the variables with the sandbox's logins and its token, or this guest's; empty when it has none.

    Raises `NoCredentials` when they were made with another key than the bot's.
    """
    token = {} if tools.endpoint is None else tools.endpoint.variables(sandbox, guest)
    if not sandbox.generation:
        return token
    if tools.key is None or not tools.key.made(sandbox):
        raise NoCredentials(sandbox.name, outdated=True)
    logins: dict[str, str] = {}
    for _, each in every(tools):
        logins.update(each.variables(sandbox, guest))
    return logins | token


async def rotate(tools: Tools, actor: Actor, sandbox: Sandbox) -> Changed:
    """Count the generation up, then have every store take the new logins and cut the old.

    The row decides: what is interrupted after its change is finished by `mend`.
    """
    rules.may_change(actor, sandbox, "rotate the credentials of")
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        current = await guilds.locked(connection, sandbox)
        rules.must_run(current, now)
        if not current.generation or tools.key is None:
            raise NoCredentials(current.name)
        rotated = await count_up(connection, actor, current, tools.key, at=now)
        await sandboxes.touch(connection, current.id, now)
    await tools.faults("rotate:counted")
    await renew(tools, rotated, RotationUnfinished)
    return Changed(rotated)


async def count_up(
    connection: Connection, actor: Actor, sandbox: Sandbox, key: CredentialsKey, *, at: datetime
) -> Sandbox:
    """Make other credentials the present ones, in the caller's transaction. Return the sandbox with them."""
    generation = sandbox.generation + 1
    await sandboxes.set_credentials(connection, sandbox.id, generation=generation, key_id=key.fingerprint)
    await audit.record(
        connection,
        sandbox.id,
        AuditEvent.CREDENTIALS_ROTATED,
        actor=actor,
        at=at,
        details={"from": sandbox.generation, "to": generation},
    )
    return sandbox.evolve(generation=generation, key_id=key.fingerprint)


async def renew(tools: Tools, sandbox: Sandbox, unfinished: type[DependencyUnavailable]) -> None:
    """Have every store take the present logins of the sandbox and its guests, and cut all others.

    Raises `unfinished` for a store that is away.
    """
    stores = every(tools)
    results = await asyncio.gather(
        *(_bounded(store, _renewed(tools, store, each, sandbox)) for store, each in stores),
        return_exceptions=True,
    )
    for (store, _), result in zip(stores, results, strict=True):
        if isinstance(result, DependencyUnavailable):
            raise unfinished(store, result.problem, result.where) from result
        if isinstance(result, BaseException):
            raise result


async def _renewed(tools: TeardownTools, store: str, credentials: Credentials, sandbox: Sandbox) -> None:
    await _make(tools, store, credentials, sandbox)
    await tools.faults("rotate:made")
    await credentials.cut(sandbox)


async def _make(
    tools: TeardownTools, store: str, credentials: Credentials, sandbox: Sandbox, *, rotated: bool = False
) -> None:
    """Make the logins while nobody ends the sandbox, unless it has ended or was rotated again.

    With `rotated` then, too: the present ones.
    """
    async with transaction(tools.pool) as connection:
        current = await sandboxes.held(connection, sandbox.id, store=store)
        if current is None or not current.routes_at(tools.clock()):
            return
        if rotated or (current.generation, current.key_id) == (sandbox.generation, sandbox.key_id):
            await credentials.make(current)


async def give_back(
    tools: TeardownTools, store: str, credentials: Credentials | None, sandbox: Sandbox
) -> None:
    """Make the present logins to one store again after its part was made anew, unless it has ended."""
    if credentials is not None and sandbox.generation:
        await _bounded(store, _make(tools, store, credentials, sandbox, rotated=True))


async def prolong(tools: TeardownTools, sandbox: Sandbox) -> None:
    """Have the logins hold until the new expiry; `mend` does it where a store is away now."""
    if sandbox.generation:
        await _each(tools, "prolong", sandbox, lambda store, each: _make(tools, store, each, sandbox))


async def revoke(tools: TeardownTools, sandbox: Sandbox) -> None:
    """Refuse every login of the sandbox and end its connections, where the store answers.

    Dropping the part does it again, and fails when it can't.
    """
    if sandbox.generation:
        await _each(tools, "revoke", sandbox, lambda _, each: each.revoke(sandbox))


async def mend(tools: TeardownTools, running: Collection[Sandbox]) -> list[tuple[str, UUID]]:
    """Make the logins that these running sandboxes lack. Return the stores and sandboxes.

    A restarted Redis has lost its users; a process may have ended in the middle of a rotation. Raises the
    first failure, after everything was tried.
    """
    mended: list[tuple[str, UUID]] = []
    failed: SandboxError | None = None
    for store, each in every(tools):
        # One store, or one sandbox, does not keep the others waiting.
        try:
            lacking = await _bounded(store, each.lacking(running))
        except SandboxError as error:
            failed = failed or error
            continue
        for sandbox in running:
            if sandbox.id not in lacking:
                continue
            try:
                await _bounded(store, _renewed(tools, store, each, sandbox))
                mended.append((store, sandbox.id))
            except SandboxError as error:
                failed = failed or error
    if failed is not None:
        raise failed
    return mended


async def _each(
    tools: TeardownTools,
    what: str,
    sandbox: Sandbox,
    work: Callable[[str, Credentials], Coroutine[Any, Any, None]],
) -> None:
    stores = every(tools)
    results = await asyncio.gather(
        *(_bounded(store, work(store, each)) for store, each in stores), return_exceptions=True
    )
    for (store, _), result in zip(stores, results, strict=True):
        # Any error: what follows does it again, and fails where it can't.
        if isinstance(result, BaseException):
            reason = str(result) if isinstance(result, SandboxError) else type(result).__name__
            _log.warning(
                "credentials_not_changed", what=what, store=store, sandbox_id=str(sandbox.id), reason=reason
            )


async def _bounded(store: str, work: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(_WITHIN):
            return await work
    except TimeoutError as error:
        raise DependencyUnavailable(store, f"no answer within {_WITHIN:g} s") from error
