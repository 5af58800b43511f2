"""Resets a sandbox: its parts are made anew, and its servers, its credentials and its expiry stay.

Its guilds' events go to it all the time: what comes before its messages are removed is removed, and what
comes afterwards stays. The row of the sandbox says how far the reset is. When a process dies in the middle of
one, or a server is away, a repetition finishes it, and so does the bot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from sandbox_core.errors import (
    DependencyUnavailable,
    DoesNotFit,
    LoginRefused,
    NoCredentials,
    ResetUnfinished,
    SandboxError,
    SandboxNotFound,
)
from sandbox_core.models import Actor, AuditEvent, Resetting, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace, SchemaProvisioner
from sandbox_core.postgres import audit, sandboxes, transaction
from sandbox_core.postgres import resets as rows
from sandbox_core.tasks import after_commit
from sandbox_core.templates import NONE, Template

from . import credentials as credential_steps
from . import guilds, rules, teardown
from .failures import reason_of
from .ports import Changed, TeardownTools, Tools

RESET = "reset"
_LONGEST = teardown.DROP_TIMEOUT
"""The limit in seconds for one store to make its part anew, without the template."""
_TURN_WITHIN = 10.0
_LOOK_AGAIN_AFTER = 0.2


async def reset(tools: Tools, actor: Actor, sandbox: Sandbox, template: str | None) -> Changed:
    """Reset it with the template of this name; None: with the same as before."""
    chosen = await check(tools, actor, sandbox, template)
    started, result = time.perf_counter(), "failed"
    try:
        async with _turn(tools, sandbox):
            before, begun = await _begin(tools, actor, sandbox, chosen)
            async with _until_expiry(tools, begun):
                done = await _carry_out(tools, actor, begun, chosen, before=before)
        result = "done"
    finally:
        with after_commit("metrics"):
            tools.observer.reset(result, time.perf_counter() - started)
    await credential_steps.prolong(tools, done)
    return Changed(done)


async def check(tools: Tools, actor: Actor, sandbox: Sandbox, template: str | None) -> Template | None:
    """Raise what `reset` would raise now. Changes nothing. Return the template."""
    rules.may_change(actor, sandbox, RESET)
    rules.must_run(sandbox, tools.clock())
    chosen = await tools.templates.chosen(template or sandbox.template or NONE)
    _must_know_logins(tools, sandbox)
    return chosen


def _must_know_logins(tools: Tools, sandbox: Sandbox) -> None:
    """Raise `NoCredentials` unless the sandbox's logins, which stay, can be made again."""
    if sandbox.generation and (tools.key is None or not tools.key.made(sandbox)):
        raise NoCredentials(sandbox.name, outdated=True)


async def go_on(tools: TeardownTools, actor: Actor, sandbox: Sandbox) -> Sandbox | None:
    """Finish a reset whose process is gone, or that failed; the caller has the claim on the sandbox.

    Return None when there is nothing to finish.
    """
    async with transaction(tools.pool) as connection:
        current = await sandboxes.by_id(connection, sandbox.id, lock=True)
    if current is None or not current.resetting or not current.routes_at(tools.clock()):
        return None
    template = None
    if current.resetting is Resetting.SCHEMA and current.template:
        template = await tools.templates.chosen(current.template)
    before = current.evolve(resetting=Resetting.NO)
    async with _until_expiry(tools, current):
        done = await _carry_out(tools, actor, current, template, before=before)
    await credential_steps.prolong(tools, done)
    return done


@asynccontextmanager
async def _turn(tools: TeardownTools, sandbox: Sandbox) -> AsyncIterator[None]:
    """Wait until nobody else resets or removes the sandbox, and keep them away."""
    ends_at = time.monotonic() + _TURN_WITHIN
    while True:
        async with tools.claims.hold(sandbox.id) as mine:
            if mine:
                yield
                return
        if time.monotonic() > ends_at:
            raise ResetUnfinished(sandbox.name, "its turn", "it is being reset or removed already")
        await asyncio.sleep(_LOOK_AGAIN_AFTER)


@asynccontextmanager
async def _until_expiry(tools: TeardownTools, sandbox: Sandbox) -> AsyncIterator[None]:
    """Stop at the sandbox's end: while this has its turn, nobody refuses the logins of an expired one."""
    left = (sandbox.expires_at - tools.clock()).total_seconds()
    try:
        async with asyncio.timeout(left) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        async with transaction(tools.pool) as connection:
            current = await sandboxes.by_id(connection, sandbox.id)
        if current is None:
            raise SandboxNotFound(sandbox.name) from None
        rules.must_run(current, tools.clock())
        # It was extended meanwhile.
        raise ResetUnfinished(sandbox.name, "its turn", "the sandbox was about to expire") from None


async def _begin(
    tools: Tools, actor: Actor, sandbox: Sandbox, template: Template | None
) -> tuple[Sandbox, Sandbox]:
    """Return the sandbox before the reset, and now."""
    async with transaction(tools.pool) as connection:
        current = await guilds.locked(connection, sandbox)
        rules.may_change(actor, current, RESET)
        rules.must_run(current, tools.clock())
        _must_know_logins(tools, current)
        name = "" if template is None else template.name
        await rows.set_resetting(connection, current.id, Resetting.SCHEMA, name)
    await tools.faults("reset:begun")
    # A schema that was half made is whole again when this is given up, so that reset is over, too.
    over = Resetting.NO if current.resetting is Resetting.SCHEMA else current.resetting
    return current.evolve(resetting=over), current.evolve(resetting=Resetting.SCHEMA, template=name)


async def _carry_out(
    tools: TeardownTools, actor: Actor, sandbox: Sandbox, template: Template | None, *, before: Sandbox
) -> Sandbox:
    """Make each part anew, from where the reset is."""
    for namespace in tools.namespaces:
        is_schema = namespace.store == SchemaProvisioner.store
        if is_schema and sandbox.resetting is Resetting.REST:
            continue
        limit = _LONGEST
        if is_schema and template is not None:
            limit += template.within.total_seconds()
        try:
            await _renewed(tools, namespace, sandbox, template, within=limit)
            if is_schema:
                sandbox = await _schema_done(tools, sandbox)
            else:
                await credential_steps.give_back(tools, namespace.store, namespace.credentials, sandbox)
        except DoesNotFit as error:
            await _given_up(tools, actor, before, error)
            raise
        except SandboxError as error:
            await _must_still_run(tools, sandbox, error)
            raise ResetUnfinished(sandbox.name, namespace.store, reason_of(error)) from error
        await tools.faults(f"reset:{namespace.store}")
    return await _finish(tools, actor, sandbox)


async def _renewed(
    tools: TeardownTools, namespace: Namespace, sandbox: Sandbox, template: Template | None, *, within: float
) -> None:
    try:
        await teardown.bounded(namespace.store, namespace.renew(sandbox, template), within=within)
    except LoginRefused:
        async with transaction(tools.pool) as connection:
            current = await sandboxes.by_id(connection, sandbox.id)
        if current is None or current.generation == sandbox.generation:
            raise
        # Its credentials were rotated meanwhile.
        await teardown.bounded(namespace.store, namespace.renew(current, template), within=within)


async def _schema_done(tools: TeardownTools, sandbox: Sandbox) -> Sandbox:
    async with transaction(tools.pool) as connection:
        await rows.made_anew(connection, sandbox.id)
    return replace(sandbox, resetting=Resetting.REST, storage=())


async def _given_up(tools: TeardownTools, actor: Actor, before: Sandbox, error: DoesNotFit) -> None:
    """Store that the sandbox is as it was before."""
    async with transaction(tools.pool) as connection:
        current = await sandboxes.by_id(connection, before.id, lock=True)
        if current is None or current.status is SandboxStatus.DESTROYED:
            return
        await rows.set_resetting(connection, before.id, before.resetting, before.template)
        await audit.record(
            connection,
            before.id,
            AuditEvent.RESET,
            actor=actor,
            at=tools.clock(),
            details={"template": current.template, "code": error.code, "error": reason_of(error)},
        )


async def _finish(tools: TeardownTools, actor: Actor, sandbox: Sandbox) -> Sandbox:
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        current = await sandboxes.by_id(connection, sandbox.id, lock=True)
        if current is not None and current.status is not SandboxStatus.DESTROYED:
            await rows.set_resetting(connection, sandbox.id, Resetting.NO, current.template)
            details = {"template": current.template} if current.template else {}
            await audit.record(connection, sandbox.id, AuditEvent.RESET, actor=actor, at=now, details=details)
            await sandboxes.touch(connection, sandbox.id, now)
    if current is None or current.status is SandboxStatus.DESTROYED:
        await _remove_again(tools, sandbox)
        raise SandboxNotFound(sandbox.name)
    rules.must_run(current, now)
    return current.evolve(resetting=Resetting.NO)


async def _must_still_run(tools: TeardownTools, sandbox: Sandbox, error: SandboxError) -> None:
    """Raise when somebody removes the sandbox, or has: then nobody goes on with the reset."""
    try:
        async with transaction(tools.pool) as connection:
            current = await sandboxes.by_id(connection, sandbox.id)
    except DependencyUnavailable:
        # Nobody knows.
        return
    if current is None or current.status is SandboxStatus.DESTROYED:
        await _remove_again(tools, sandbox)
        raise SandboxNotFound(sandbox.name) from error
    rules.must_run(current, tools.clock())


async def _remove_again(tools: TeardownTools, sandbox: Sandbox) -> None:
    """Remove what was made anew of a sandbox that somebody has destroyed meanwhile."""

    async def is_gone() -> bool:
        return True

    for namespace in reversed(tools.namespaces):
        listed_id = sandbox.short_id if namespace.store == SchemaProvisioner.store else str(sandbox.id)
        await teardown.bounded(
            namespace.store, namespace.drop_orphan(listed_id, is_gone), within=teardown.DROP_TIMEOUT
        )
