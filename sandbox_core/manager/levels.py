"""Changes what a bot in a sandbox may do at Discord."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_core.models import Actor, AuditEvent, GuildAccess, RestLevel, Sandbox
from sandbox_core.postgres import audit, sandboxes, transaction

from . import guilds, rules
from .ports import Changed, Tools


async def set_level(
    tools: Tools, actor: Actor, sandbox: Sandbox, level: RestLevel, accesses: Sequence[GuildAccess]
) -> Changed:
    """Store the level; the same one again changes nothing."""
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        current = await guilds.locked(connection, sandbox)
        rules.may_set_level(actor, current, level, accesses, tools.limits)
        rules.must_run(current, now)
        if current.rest_level is level:
            return Changed(current)
        await sandboxes.set_rest_level(connection, current.id, level)
        await audit.record(
            connection,
            current.id,
            AuditEvent.REST_LEVEL_CHANGED,
            actor=actor,
            at=now,
            details={"from": current.rest_level.value, "to": level.value},
        )
        await sandboxes.touch(connection, current.id, now)
    return Changed(current.evolve(rest_level=level))
