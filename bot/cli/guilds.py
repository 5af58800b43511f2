"""`register-guild` and `unregister-guild`: where a server's live events go."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.errors import NotPermitted
from sandbox_core.manager import utc_now
from sandbox_core.models import GuildAccess, Sandbox
from sandbox_core.validation import parse_guild_id

from . import _caller as caller
from . import _options as options
from . import _shapes as shapes
from ._discord import guild_accesses
from ._outcome import run, usage
from ._screen import Line, busy, confirm, emit, must_be_answerable, show
from ._session import opened
from ._words import moment


def register_guild(
    name: options.Name,
    guild: options.GuildId,
    *,
    owner: options.Owner = None,
    unchecked: Annotated[
        bool,
        typer.Option(
            "--unchecked", help="The operator vouches that the bot is in the server; Discord is not asked."
        ),
    ] = False,
    protected: Annotated[
        str | None,
        typer.Option(
            "--protected",
            metavar="SERVER_ID",
            help="Confirm a server of DISCORD_PROTECTED_GUILD_IDS: its id once more.",
        ),
    ] = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Send a server's live events to a sandbox instead of production; asks first."""
    must_be_answerable(yes)
    with busy("Asking Discord"):
        sandbox, access = run(_look_up(name, guild, owner, unchecked=unchecked))
    where = f"{access.name} ({access.guild_id})" if access.name else access.guild_id
    confirm(
        "Go on?",
        yes=yes,
        told=[
            f"The live events of {where} will go to {sandbox.name}, and no longer to production,",
            f"until {moment(sandbox.expires_at)} or `sandboxctl unregister-guild {access.guild_id}`.",
        ],
    )
    with busy("Registering"):
        registered = run(_register(sandbox, access, owner, confirmed=protected == access.guild_id))
    if as_json:
        emit(
            {
                "sandbox": shapes.sandbox_shape(registered, utc_now()),
                "guild_id": access.guild_id,
                "guild_name": access.name or None,
                "checked": not unchecked,
            }
        )
        return
    show(Line(f"The events of {where} now go to {registered.name}."))


async def _look_up(
    name: str, guild: str, owner: str | None, *, unchecked: bool
) -> tuple[Sandbox, GuildAccess]:
    if unchecked and owner is not None:
        raise usage("--unchecked is the operator's: whether --owner may do this, only Discord can say.")
    guild_id = parse_guild_id(guild)
    async with opened() as core:
        sandbox = await core.manager.get(name)
        core.manager.check_may_manage(caller.actor(owner), sandbox, "register servers with")
        core.manager.check_running(sandbox)
        if unchecked:
            return sandbox, GuildAccess(guild_id, bot_is_member=True, caller_manages=False)
        (access,) = await guild_accesses(core.settings, [guild_id], owner)
        return sandbox, access


async def _register(sandbox: Sandbox, access: GuildAccess, owner: str | None, *, confirmed: bool) -> Sandbox:
    async with opened() as core:
        return await core.manager.register_guild(
            caller.actor(owner), str(sandbox.id), access, confirmed=confirmed
        )


def unregister_guild(
    guild: options.GuildId,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="The sandbox it must be registered with; by default whichever has it.",
            autocompletion=options.suggest_names,
        ),
    ] = None,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Send a server's live events to production again."""
    with busy("Unregistering"):
        sandbox = run(_unregister(guild, name, owner))
    if as_json:
        emit({"sandbox": shapes.sandbox_shape(sandbox, utc_now()), "guild_id": guild.strip()})
        return
    show(Line(f"The events of {guild.strip()} go to production again, and no longer to {sandbox.name}."))


async def _unregister(guild: str, name: str | None, owner: str | None) -> Sandbox:
    guild_id = parse_guild_id(guild)
    async with opened() as core:
        actor = caller.actor(owner)
        access = GuildAccess(guild_id, bot_is_member=True, caller_manages=False)
        try:
            return await core.manager.unregister_guild(actor, access, reference=name)
        except NotPermitted:
            # It may still be the traffic of a server that --owner manages, which Discord knows.
            if owner is None or core.settings.discord_token is None:
                raise
            (access,) = await guild_accesses(core.settings, [guild_id], owner)
            return await core.manager.unregister_guild(actor, access, reference=name)
