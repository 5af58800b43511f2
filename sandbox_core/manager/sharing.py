"""Shares a sandbox with colleagues, and takes their access away again.

The row decides: from the commit on nobody is shown a colleague's credentials that it does not have, and what
servers still have of them is removed, by whoever committed it or by `mend`.
"""

from __future__ import annotations

from datetime import datetime

from sandbox_core.errors import InvalidInput, NoCredentials, SharingUnfinished
from sandbox_core.guests import new_login
from sandbox_core.models import Actor, AuditEvent, Sandbox, Share, ShareAccess
from sandbox_core.postgres import Connection, audit, sandboxes, shares, transaction

from . import credentials as credential_steps
from . import guilds, rules
from .ports import Colleague, Sharing, Tools


async def share(
    tools: Tools, actor: Actor, sandbox: Sandbox, colleague: Colleague, access: ShareAccess
) -> Sharing:
    """Let the colleague see the sandbox, or work in it; the same access again changes nothing."""
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        current = await guilds.locked(connection, sandbox)
        rules.may_share(actor, current, colleague, access, limits=tools.limits, now=now)
        before = current.share_of(colleague.user_id)
        if before is not None and before.access is access:
            return Sharing(current, user_id=colleague.user_id, already=True)
        if access is ShareAccess.USE and (tools.key is None or not tools.key.made(current)):
            raise NoCredentials(current.name, outdated=True)
        login = new_login() if access is ShareAccess.USE else ""
        made = Share(colleague.user_id, access, login, colleague.name)
        await shares.put(connection, current.id, made, at=now)
        details = {"user_id": colleague.user_id, "access": access.value}
        if before is not None:
            details["before"] = before.access.value
        await audit.record(connection, current.id, AuditEvent.SHARED, actor=actor, at=now, details=details)
        await sandboxes.touch(connection, current.id, now)
        shared = await guilds.locked(connection, current)
        gone = before is not None and before.login
        if gone:
            shared = await _with_present_key(tools, connection, actor, shared, at=now)
    await _finish(tools, shared, changed=bool(gone or login))
    return Sharing(shared, user_id=colleague.user_id)


async def unshare(tools: Tools, actor: Actor, sandbox: Sandbox, user_id: str) -> Sharing:
    """Take the colleague's access away, and end all connections with their credentials."""
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        current = await guilds.locked(connection, sandbox)
        rules.may_change(actor, current, rules.SHARE)
        before = current.share_of(user_id)
        if before is None:
            names = ", ".join(f"`{each.user_id}`" for each in current.shares)
            with_whom = f"one of {names}" if names else "`share` comes first"
            raise InvalidInput("user", user_id, f"`{current.name}` is not shared with them", with_whom)
        await shares.remove(connection, current.id, user_id)
        details = {"user_id": user_id, "access": before.access.value}
        await audit.record(connection, current.id, AuditEvent.UNSHARED, actor=actor, at=now, details=details)
        await sandboxes.touch(connection, current.id, now)
        left = await guilds.locked(connection, current)
        if before.login:
            left = await _with_present_key(tools, connection, actor, left, at=now)
    await _finish(tools, left, changed=bool(before.login))
    return Sharing(left, user_id=user_id)


async def _with_present_key(
    tools: Tools, connection: Connection, actor: Actor, sandbox: Sandbox, *, at: datetime
) -> Sandbox:
    """Rotate the credentials in the caller's transaction when they were made with another key.

    They can't be made as they were, and the colleague's must not wait for that.
    """
    if tools.key is None or not sandbox.generation or tools.key.made(sandbox):
        return sandbox
    return await credential_steps.count_up(connection, actor, sandbox, tools.key, at=at)


async def _finish(tools: Tools, sandbox: Sandbox, *, changed: bool) -> None:
    await tools.faults("share:stored")
    if changed and sandbox.generation:
        await credential_steps.renew(tools, sandbox, SharingUnfinished)
