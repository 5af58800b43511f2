"""`unregister-guild`: sends servers' live events to production again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from sandbox_core.errors import GuildNotRegistered, NotPermitted, SandboxError, SandboxNotFound
from sandbox_core.manager import Changed, utc_now
from sandbox_core.models import GuildAccess, Sandbox
from sandbox_core.validation import parse_guild_id
from sandbox_core.words import counted

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from ._discord import guild_accesses
from ._exit import exit_code, fail, run
from ._screen import Line, busy, confirm, emit, must_be_answerable, show
from ._session import opened
from ._unconfirmed import note_unconfirmed
from ._words import error_line


def unregister_guild(
    guild: Annotated[
        str | None, typer.Argument(metavar="[SERVER_ID]", help="The Discord server's id.")
    ] = None,
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="The sandbox it must be registered with; by default the one that has it.",
            autocompletion=options.suggest_names,
        ),
    ] = None,
    owner: options.Owner = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every server of --name, else of --owner, else of all sandboxes.")
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Send a server's live events to production again; with --all asks first."""
    if everything == (guild is not None):
        fail(["Say which: one SERVER_ID, or --all."], ExitCode.USAGE)
    if guild is None:
        _unregister_all(name, owner, yes=yes, as_json=as_json)
        return
    with busy("Unregistering"):
        changed = run(_unregister(guild, name, owner))
    if as_json:
        emit(json.unregistered(changed, guild.strip(), utc_now()))
        return
    left = changed.sandbox.name
    show(Line(f"The events of {guild.strip()} go to production again, and no longer to {left}."))
    note_unconfirmed(changed)


def _unregister_all(name: str | None, owner: str | None, *, yes: bool, as_json: bool) -> None:
    must_be_answerable(yes)
    with busy("Looking them up"):
        found = run(_registered(name, owner))
    ended: dict[str, Changed] = {}
    failed: list[_Failed] = []
    if found:
        told = [f"The events of {guild_id} go to {sandbox.name}." for guild_id, sandbox in found]
        confirm("Send them to production again?", yes=yes, told=told)
        with busy("Unregistering"):
            ended, failed = run(_unregister_each(found, owner))
    if as_json:
        emit(json.all_unregistered(ended, failed))
    elif not failed:
        servers = counted(len(ended), "server", "servers")
        show(
            Line(f"The events of {servers} go to production again." if found else "No server is registered.")
        )
        note_unconfirmed(*ended.values())
    if failed:
        lines = [f"{guild_id}: {error_line(error)}" for guild_id, _, error in failed]
        fail(lines, max(exit_code(error) for _, _, error in failed))


_Mapping = tuple[str, Sandbox]
"""A server's id, and the sandbox that gets its events."""


_Failed = tuple[str, Sandbox, SandboxError]


async def _registered(name: str | None, owner: str | None) -> list[_Mapping]:
    async with opened() as core:
        if name is not None:
            sandboxes = [await core.manager.get(name)]
        else:
            sandboxes = await core.manager.list(owner=owner)
        for sandbox in sandboxes:
            core.manager.check_may_manage(
                caller.actor(owner, core.settings), sandbox, "unregister servers from"
            )
        return [(guild_id, sandbox) for sandbox in sandboxes for guild_id in sandbox.guild_ids]


async def _unregister_each(
    mappings: Sequence[_Mapping], owner: str | None
) -> tuple[dict[str, Changed], list[_Failed]]:
    ended: dict[str, Changed] = {}
    failed: list[_Failed] = []
    async with opened() as core:
        for guild_id, sandbox in mappings:
            access = GuildAccess(guild_id, bot_is_member=True, caller_manages=False)
            try:
                ended[guild_id] = await core.manager.unregister_guild(
                    caller.actor(owner, core.settings), access, reference=str(sandbox.id)
                )
            except (GuildNotRegistered, SandboxNotFound):
                # Another caller has unregistered it meanwhile: the result is the same.
                ended[guild_id] = Changed(sandbox)
            except SandboxError as error:
                failed.append((guild_id, sandbox, error))
    return ended, failed


async def _unregister(guild: str, name: str | None, owner: str | None) -> Changed:
    guild_id = parse_guild_id(guild)
    async with opened() as core:
        actor = caller.actor(owner, core.settings)
        access = GuildAccess(guild_id, bot_is_member=True, caller_manages=False)
        try:
            return await core.manager.unregister_guild(actor, access, reference=name)
        except NotPermitted:
            # Perhaps --owner manages the server, which only Discord knows.
            if owner is None or core.settings.discord_token is None:
                raise
            (access,) = await guild_accesses(core.settings, [guild_id], owner)
            return await core.manager.unregister_guild(actor, access, reference=name)
