"""Decides who may do what to which sandbox; pure functions, each rule once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from sandbox_core.errors import (
    BotNotInGuild,
    ConfirmationNeeded,
    GuildLimitReached,
    GuildProtected,
    InvalidInput,
    NotPermitted,
    SandboxNotRunning,
    ShareLimitReached,
    SharingImpossible,
)
from sandbox_core.models import Actor, GuildAccess, RestLevel, Sandbox, SandboxStatus, ShareAccess
from sandbox_core.validation import parse_guild_id

from .ports import Colleague, ManagerLimits

REGISTER = "register servers with"
SET_LEVEL = "set the level of"
SHARE = "share"
CONNECT = "connect to"
MAKE_EVENTS = "make events in"

COLLEAGUES: Mapping[str, ShareAccess] = {
    "read the events of": ShareAccess.SEE,
    "read the calls of": ShareAccess.SEE,
    "read the sessions of": ShareAccess.SEE,
    "read dead letters of": ShareAccess.SEE,
    CONNECT: ShareAccess.USE,
    MAKE_EVENTS: ShareAccess.USE,
    "replay events into": ShareAccess.USE,
    "replay dead letters of": ShareAccess.USE,
    "drop dead letters of": ShareAccess.USE,
    "reset": ShareAccess.USE,
}
"""What colleagues may do, by the verb, and the least access that it takes.

Anything else is for the sandbox's owner and the bot's owners: to share it, to register servers and unregister
them, to set its level, to extend it, to rotate its credentials, and to destroy it. What anybody may read of a
sandbox, its row in the list, its status and its audit log, is not asked here.
"""
_WHO_MAY: Mapping[ShareAccess | None, str] = {
    None: "its owner or the bot's owner",
    ShareAccess.SEE: "its owner, colleagues it is shared with, or the bot's owner",
    ShareAccess.USE: "its owner, colleagues it is shared with to `use`, or the bot's owner",
}


def may_change(actor: Actor, sandbox: Sandbox, verb: str) -> None:
    """Raise `NotPermitted` unless the actor owns the sandbox or the bot, or `COLLEAGUES` lets them."""
    if actor.is_bot_owner or actor.id == sandbox.owner:
        return
    least, share = COLLEAGUES.get(verb), sandbox.share_of(actor.id)
    if least is None or share is None or not share.access.includes(least):
        raise NotPermitted(f"{verb} `{sandbox.name}`", _WHO_MAY[least])


def may_share(
    actor: Actor,
    sandbox: Sandbox,
    colleague: Colleague,
    access: ShareAccess,
    *,
    limits: ManagerLimits,
    now: datetime,
) -> None:
    """Raise unless the actor may share the sandbox with this colleague now.

    `NotPermitted`, `SandboxNotRunning`, `InvalidInput` when it is nobody to share with, `ShareLimitReached`,
    or `SharingImpossible` for `USE` of a sandbox without credentials.
    """
    may_change(actor, sandbox, SHARE)
    must_run(sandbox, now)
    problem = ""
    if not colleague.exists:
        problem = "Discord knows nobody with this id"
    elif colleague.is_bot:
        problem = "it is a bot, and a sandbox is shared with people"
    elif colleague.user_id == sandbox.owner:
        problem = "the sandbox is theirs"
    if problem:
        raise InvalidInput("user", colleague.user_id, problem, "a colleague on Discord")
    if access is ShareAccess.USE and not sandbox.generation:
        raise SharingImpossible(sandbox.name)
    if sandbox.share_of(colleague.user_id) is None and len(sandbox.shares) >= limits.max_shares:
        raise ShareLimitReached(limits.max_shares)


def may_divert(actor: Actor, access: GuildAccess, limits: ManagerLimits, *, confirmed: bool) -> str:
    """Return the guild's id if the actor may register the guild with a sandbox.

    Raises `InvalidInput`, `BotNotInGuild`, `NotPermitted`, `GuildProtected`, or `ConfirmationNeeded` when
    the bot's owner has not `confirmed` a protected guild.
    """
    guild_id = parse_guild_id(access.guild_id)
    if not access.bot_is_member:
        raise BotNotInGuild(guild_id)
    if not (actor.is_bot_owner or access.caller_manages):
        raise NotPermitted(
            f"register the server {guild_id}", "members with Manage Server there, and the bot's owner"
        )
    if guild_id in limits.protected_guild_ids:
        if not actor.is_bot_owner:
            raise GuildProtected(guild_id)
        if not confirmed:
            raise ConfirmationNeeded(guild_id, access.name)
    return guild_id


def may_register(
    actor: Actor,
    sandbox: Sandbox,
    access: GuildAccess,
    limits: ManagerLimits,
    now: datetime,
    *,
    confirmed: bool,
) -> str:
    """Return the guild's id if the actor may register the guild with this sandbox now.

    Raises as `may_change`, `must_run` and `may_divert`, and `GuildLimitReached`.
    """
    may_change(actor, sandbox, REGISTER)
    must_run(sandbox, now)
    guild_id = may_divert(actor, access, limits, confirmed=confirmed)
    _must_fit({*sandbox.guild_ids, guild_id}, limits)
    return guild_id


def may_set_level(
    actor: Actor,
    sandbox: Sandbox,
    level: RestLevel,
    accesses: Iterable[GuildAccess],
    limits: ManagerLimits,
) -> None:
    """Raise `NotPermitted` unless the actor may give the sandbox this level.

    A lower one is its owner's to choose. A higher one lets its bot do more in every guild of the sandbox, so
    it takes the right to register each of them; a guild without an access counts as one without the right.
    """
    may_change(actor, sandbox, SET_LEVEL)
    if sandbox.rest_level.includes(level):
        return
    known = {access.guild_id: access for access in accesses}
    for guild_id in sandbox.guild_ids:
        nobody = GuildAccess(guild_id, bot_is_member=True, caller_manages=False)
        may_divert(actor, known.get(guild_id, nobody), limits, confirmed=True)


def may_divert_all(
    actor: Actor, accesses: Iterable[GuildAccess], limits: ManagerLimits, *, confirmed: bool
) -> list[str]:
    """Return the guilds' ids, each once and sorted, so that all callers lock them in the same order.

    Raises as `may_divert`, and `GuildLimitReached`.
    """
    guild_ids = {may_divert(actor, access, limits, confirmed=confirmed) for access in accesses}
    _must_fit(guild_ids, limits)
    return sorted(guild_ids)


def _must_fit(guild_ids: Collection[str], limits: ManagerLimits) -> None:
    if len(guild_ids) > limits.max_guilds:
        raise GuildLimitReached(limits.max_guilds)


def may_return(actor: Actor, access: GuildAccess, sandbox: Sandbox) -> None:
    """Raise `NotPermitted` unless the actor may unregister the guild."""
    if not (actor.is_bot_owner or actor.id == sandbox.owner or access.caller_manages):
        raise NotPermitted(
            f"unregister the server {parse_guild_id(access.guild_id)} from `{sandbox.name}`",
            "the sandbox's owner, members with Manage Server there, and the bot's owner",
        )


def must_run(sandbox: Sandbox, now: datetime) -> None:
    """Raise `SandboxNotRunning` unless it runs; past its expiry it does not, also before cleanup."""
    if not sandbox.routes_at(now):
        running = sandbox.status is SandboxStatus.RUNNING
        raise SandboxNotRunning(sandbox.name, SandboxStatus.EXPIRED if running else sandbox.status)
