"""Decides who may do what to which sandbox; pure functions, each rule once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sandbox_core.errors import (
    BotNotInGuild,
    ConfirmationNeeded,
    GuildLimitReached,
    GuildProtected,
    NotPermitted,
    SandboxNotRunning,
)
from sandbox_core.models import Actor, GuildAccess, RestLevel, Sandbox, SandboxStatus
from sandbox_core.validation import parse_guild_id

from .ports import ManagerLimits

REGISTER = "register servers with"
SET_LEVEL = "set the level of"


def may_change(actor: Actor, sandbox: Sandbox, verb: str) -> None:
    """Raise `NotPermitted` unless the actor owns the sandbox or the bot."""
    if not (actor.is_bot_owner or actor.id == sandbox.owner):
        raise NotPermitted(f"{verb} `{sandbox.name}`", "its owner or the bot's owner")


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
