"""Registers a guild with a sandbox, and unregisters it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sandbox_core.errors import GuildAlreadyMapped, GuildNotRegistered, SandboxNotFound
from sandbox_core.models import Actor, AuditEvent, GuildAccess, Sandbox
from sandbox_core.postgres import Connection, audit, connected, guild_mappings, sandboxes, transaction
from sandbox_core.validation import parse_guild_id

from . import rules
from .ports import Changed, Registration, Tools


async def register(
    tools: Tools, actor: Actor, sandbox: Sandbox, access: GuildAccess, *, confirmed: bool
) -> Registration:
    """Map the guild to the sandbox, and announce the new route."""
    await tools.routes.settled([parse_guild_id(access.guild_id)])
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        current = await locked(connection, sandbox)
        guild_id = rules.may_register(actor, current, access, tools.limits, now, confirmed=confirmed)
        is_new = await map_guild(connection, actor, current, guild_id, at=now)
        await sandboxes.touch(connection, current.id, now)
        registered = await locked(connection, current)
    # Also when it was registered: whoever did that may have ended before it told the others.
    changed = await tools.send_to(registered)
    return Registration(changed.sandbox, changed.unconfirmed, already=not is_new)


async def check(
    tools: Tools, actor: Actor, sandbox: Sandbox, access: GuildAccess, *, confirmed: bool
) -> None:
    """Raise what `register` would raise now, `ConfirmationNeeded` last. Changes nothing."""
    now = tools.clock()
    guild_id = rules.may_register(actor, sandbox, access, tools.limits, now, confirmed=True)
    await refuse_mapped(tools, [guild_id], sandbox)
    rules.may_register(actor, sandbox, access, tools.limits, now, confirmed=confirmed)


async def refuse_mapped(tools: Tools, guild_ids: Sequence[str], sandbox: Sandbox | None = None) -> None:
    """Raise `GuildAlreadyMapped` when one of the guilds sends its events to another sandbox."""
    if not guild_ids:
        return
    now = tools.clock()
    async with connected(tools.pool) as connection:
        for guild_id in guild_ids:
            holder = await guild_mappings.holder_of(connection, guild_id)
            if holder is None or not holder.routes_at(now):
                continue
            if sandbox is None or holder.id != sandbox.id:
                raise GuildAlreadyMapped(guild_id, holder.name)


async def unregister(tools: Tools, actor: Actor, access: GuildAccess, expected: Sandbox | None) -> Changed:
    """End the guild's mapping to any sandbox, or only to `expected`."""
    guild_id = parse_guild_id(access.guild_id)
    await tools.routes.settled([guild_id])
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        holder = await guild_mappings.holder_of(connection, guild_id)
        if holder is None or (expected is not None and expected.id != holder.id):
            raise GuildNotRegistered(guild_id)
        rules.may_return(actor, access, holder)
        await locked(connection, holder)
        if not await guild_mappings.remove(connection, guild_id, holder.id):
            raise GuildNotRegistered(guild_id)
        await audit.record(
            connection,
            holder.id,
            AuditEvent.GUILD_UNREGISTERED,
            actor=actor,
            at=now,
            details={"guild_id": guild_id},
        )
        await sandboxes.touch(connection, holder.id, now)
        left = await locked(connection, holder)
    return await tools.send_to_production(left, [guild_id])


async def map_guild(
    connection: Connection, actor: Actor, sandbox: Sandbox, guild_id: str, *, at: datetime
) -> bool:
    """Map the guild in the caller's transaction; replace a mapping to a sandbox that gets no more events.

    Return False when it is mapped to this sandbox already.

    Raises `GuildAlreadyMapped` when another sandbox receives the guild's events.
    """
    while holder := await guild_mappings.claim(connection, guild_id, sandbox.id, actor.id, at):
        if holder.id == sandbox.id:
            return False
        if holder.routes_at(at):
            raise GuildAlreadyMapped(guild_id, holder.name)
        if await guild_mappings.remove(connection, guild_id, holder.id):
            await audit.record(
                connection,
                holder.id,
                AuditEvent.GUILD_UNREGISTERED,
                actor=actor,
                at=at,
                details={"guild_id": guild_id, "reason": "expired", "registered_with": str(sandbox.id)},
            )
    await audit.record(
        connection,
        sandbox.id,
        AuditEvent.GUILD_REGISTERED,
        actor=actor,
        at=at,
        details={"guild_id": guild_id},
    )
    return True


async def locked(connection: Connection, sandbox: Sandbox) -> Sandbox:
    """Lock the sandbox's row until the transaction ends, and return the sandbox."""
    current = await sandboxes.by_id(connection, sandbox.id, lock=True)
    if current is None:
        raise SandboxNotFound(sandbox.name)
    return current
