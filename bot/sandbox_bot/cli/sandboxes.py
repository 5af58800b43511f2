"""`create`, `list`, `status`, `extend`, `destroy`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer
from rich.live import Live

from sandbox_core.bootstrap import Core, NatsUse
from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.event_router import LastEvent
from sandbox_core.manager import Changed, Extension, utc_now
from sandbox_core.models import GuildAccess, Sandbox, SandboxStatus
from sandbox_core.settings import Settings

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from . import _views as views
from ._discord import guild_accesses
from ._diversion import diversion, last_events
from ._outcome import exit_code, fail, run, usage
from ._screen import (
    Block,
    Line,
    busy,
    confirm,
    console,
    emit,
    must_be_answerable,
    note,
    on_terminal,
    plain,
    pretty,
    show,
)
from ._session import opened
from ._streams import write
from ._unconfirmed import note_unconfirmed
from ._words import error_line, moment, relative


def create(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="3 to 63 of a-z, 0-9 and -; by default it is generated."),
    ] = None,
    *,
    owner: options.NewOwner = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="DURATION", help="How long it lives: 90m, 24h, 3d.")
    ] = None,
    guild: Annotated[
        list[str] | None,
        typer.Option("--guild", metavar="SERVER_ID", help="A server to register at once; may be repeated."),
    ] = None,
    protected: Annotated[
        list[str] | None,
        typer.Option(
            "--protected",
            metavar="SERVER_ID",
            help="Confirm a --guild of DISCORD_PROTECTED_GUILD_IDS, for the bot's owner: its id once more.",
        ),
    ] = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Create a sandbox; it runs when the command returns."""
    if owner is None:
        fail(["A sandbox needs an owner: name a Discord user with --owner or SANDBOX_OWNER."], ExitCode.USAGE)
    request = _Creation(owner, name, ttl, guild or (), frozenset(map(str.strip, protected or ())))
    if guild:
        must_be_answerable(yes)
    if guild and not yes:
        with busy("Asking Discord"):
            accesses, last = run(_check(request))
        confirm("Go on?", yes=yes, told=diversion(accesses, name or "the new sandbox", "its end", last))
    with busy("Creating"):
        made = run(_create(request))
    now = utc_now()
    if as_json:
        emit(json.created(made, now))
        return
    show(views.identity(made.sandbox, now))
    note_unconfirmed(made)
    note(f'\nFor a worker: eval "$(sandboxctl connect {made.sandbox.name})"')


@dataclass(frozen=True, slots=True)
class _Creation:
    """The arguments of `create`."""

    owner: str
    name: str | None
    ttl: str | None
    guild_ids: Sequence[str]
    protected: frozenset[str]
    """The servers whose id was given a second time."""

    async def check(self, core: Core, guilds: Sequence[GuildAccess]) -> None:
        """Raise what `create` would raise now; last `ConfirmationNeeded`, for a server not in `protected`."""
        actor = caller.actor(self.owner, core.settings)
        check = core.manager.check_create
        await check(actor, name=self.name, ttl=self.ttl, guilds=guilds, confirmed=True)
        unconfirmed = [access for access in guilds if access.guild_id not in self.protected]
        await check(actor, name=self.name, ttl=self.ttl, guilds=unconfirmed)

    async def accesses(self, settings: Settings) -> list[GuildAccess]:
        """Ask Discord what the bot and the owner may do in the servers now."""
        return await guild_accesses(settings, self.guild_ids, self.owner)


async def _check(request: _Creation) -> tuple[list[GuildAccess], dict[str, LastEvent]]:
    async with opened() as core:
        # First the checks that do not ask Discord.
        await request.check(core, ())
        guilds = await request.accesses(core.settings)
        # Before the question: a caller without the right gets no question.
        await request.check(core, guilds)
        return guilds, await last_events(core, guilds)


async def _create(request: _Creation) -> Changed:
    async with opened(NatsUse.SANDBOXES) as core:
        # Again after a question, which may be old: Discord's present answer counts.
        guilds = await request.accesses(core.settings)
        if guilds:
            await request.check(core, guilds)
        return await core.manager.create(
            caller.actor(request.owner, core.settings),
            name=request.name,
            ttl=request.ttl,
            guilds=guilds,
            confirmed=True,
        )


def list_(
    owner: options.OwnerFilter = None,
    status: Annotated[
        SandboxStatus | None, typer.Option("--status", help="Only those with this status.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Destroyed ones too.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show sandboxes, newest first."""
    with busy("Listing"):
        sandboxes = run(_list(owner, status, everything))
    now = utc_now()
    if as_json:
        emit(json.listing(sandboxes, now))
    elif sandboxes or not on_terminal():
        # A pipe always gets the headings, also without rows.
        show(views.listing(sandboxes, now, absolute=not on_terminal()))
    else:
        note("No sandbox matches." if owner or status else "There are no sandboxes.")


async def _list(owner: str | None, status: SandboxStatus | None, everything: bool) -> list[Sandbox]:
    async with opened() as core:
        return await core.manager.list(owner=owner, status=status, include_destroyed=everything)


def status(
    name: options.OptionalName = None,
    owner: options.Owner = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.5, max=3600, metavar="SECONDS", help="Pause of --watch.")
    ] = 2.0,
    as_json: options.Json = False,
) -> None:
    """Show one sandbox, and how each of its stores serves it."""
    if watch:
        run(_watch(name, owner, interval, as_json), interrupted=ExitCode.DONE)
        return
    with busy("Asking the servers"):
        blocks, shape = run(_status(name, owner))
    if as_json:
        emit(shape)
    else:
        show(*blocks)


_Shown = tuple[list[Block], json.Json]


async def _status(name: str | None, owner: str | None) -> _Shown:
    async with opened(NatsUse.SANDBOXES) as core:
        return await _look(core, await _reference(core, name, owner))


async def _reference(core: Core, name: str | None, owner: str | None) -> str:
    # Each update looks the name up again: it may belong to another sandbox by then.
    return name if name is not None else str((await caller.named(core.manager, None, owner)).id)


async def _look(core: Core, reference: str) -> _Shown:
    state = await core.manager.health(reference)
    now = utc_now()
    return views.health(state, now), json.status(state, now)


async def _watch(name: str | None, owner: str | None, interval: float, as_json: bool) -> None:
    async with opened(NatsUse.SANDBOXES) as core:
        reference = await _reference(core, name, owner)
        if on_terminal() and not as_json:
            await _watch_in_place(core, reference, interval)
        while True:
            blocks, shape = await _look_again(core, reference)
            if as_json:
                emit(shape, compact=True)
            else:
                write(plain(*blocks) + "\n")
            await asyncio.sleep(interval)


async def _watch_in_place(core: Core, reference: str, interval: float) -> NoReturn:
    blocks: list[Block] = []
    try:
        with Live(console=console(), auto_refresh=False, screen=True) as screen:
            while True:
                blocks, _ = await _look_again(core, reference)
                screen.update(pretty(*blocks, Line("Ctrl-C ends this.", "dim")), refresh=True)
                await asyncio.sleep(interval)
    finally:
        # Leaving the alternate screen clears it; the last status stays visible.
        show(*blocks)


async def _look_again(core: Core, reference: str) -> _Shown:
    try:
        return await _look(core, reference)
    except DependencyUnavailable as error:
        # Show the failure and go on: the reader wants to see the server come back.
        now = utc_now()
        return [Line(f"{moment(now)}  {error_line(error)}", "red")], json.status_unknown(error, now)


def extend(
    name: options.Name,
    duration: Annotated[
        str, typer.Argument(metavar="DURATION", help="How much longer: 90m, 24h, 3d, or a number of hours.")
    ],
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Let a sandbox live longer, up to the longest life allowed."""
    with busy("Extending"):
        extension = run(_extend(name, duration, owner))
    sandbox, now = extension.sandbox, utc_now()
    if as_json:
        emit(json.extended(extension, now))
        return
    expires = f"{moment(sandbox.expires_at)}, {relative(sandbox.expires_at, now)}"
    capped = " That is less than asked for: it is the longest life allowed." if extension.capped else ""
    show(Line(f"{sandbox.name} now lives until {expires}.{capped}", "yellow" if capped else ""))


async def _extend(name: str, duration: str, owner: str | None) -> Extension:
    async with opened() as core:
        return await core.manager.extend(caller.actor(owner, core.settings), name, duration)


def destroy(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names or ids.", autocompletion=options.suggest_names),
    ] = None,
    owner: options.Owner = None,
    everything: Annotated[bool, typer.Option("--all", help="Every sandbox of --owner.")] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete sandboxes and everything in them; asks first."""
    must_be_answerable(yes)
    with busy("Looking them up"):
        sandboxes = run(_to_destroy(names or [], owner, everything))
    if sandboxes:
        told = [line for sandbox in sandboxes for line in views.deletion(sandbox)]
        question = f"Destroy {', '.join(sandbox.name for sandbox in sandboxes)}?"
        confirm(question, yes=yes, told=told)
        with busy("Destroying"):
            destroyed, failed = run(_destroy(sandboxes, owner))
    else:
        destroyed, failed = [], []
    now = utc_now()
    if as_json:
        emit(json.destroyed(destroyed, failed, now))
    elif destroyed:
        write("\n".join(f"{gone.sandbox.name} is destroyed." for gone in destroyed))
        note_unconfirmed(*destroyed)
    elif not failed:
        note("There was nothing to destroy.")
    if failed:
        fail([error_line(error) for _, error in failed], max(exit_code(error) for _, error in failed))


async def _to_destroy(names: Sequence[str], owner: str | None, everything: bool) -> list[Sandbox]:
    if everything == bool(names):
        raise usage("Name the sandboxes: one NAME or more, or --all with --owner.")
    async with opened() as core:
        if everything:
            if owner is None:
                raise usage("--all destroys one person's sandboxes: name the Discord user with --owner.")
            return await core.manager.list(owner=owner)
        found = {sandbox.id: sandbox for sandbox in [await core.manager.get(name) for name in names]}
        for sandbox in found.values():
            # Checked now and while destroying: a caller without the right gets no question.
            core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, "destroy")
        return list(found.values())


async def _destroy(
    sandboxes: Sequence[Sandbox], owner: str | None
) -> tuple[list[Changed], list[tuple[Sandbox, SandboxError]]]:
    destroyed: list[Changed] = []
    failed: list[tuple[Sandbox, SandboxError]] = []
    async with opened(NatsUse.SANDBOXES) as core:
        for sandbox in sandboxes:
            try:
                # By id: another sandbox may have the name since the question.
                destroyed.append(
                    await core.manager.destroy(caller.actor(owner, core.settings), str(sandbox.id))
                )
            except SandboxError as error:
                failed.append((sandbox, error))
    return destroyed, failed
