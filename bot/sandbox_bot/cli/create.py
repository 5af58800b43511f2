"""`create`: makes a sandbox, and registers servers with it if asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from sandbox_core.bootstrap import Core, NatsUse
from sandbox_core.event_router import LastEvent
from sandbox_core.manager import Changed, utc_now
from sandbox_core.models import GuildAccess
from sandbox_core.settings import Settings

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from . import _views as views
from ._discord import guild_accesses
from ._diversion import diversion, last_events
from ._exit import fail, run
from ._screen import (
    busy,
    confirm,
    emit,
    must_be_answerable,
    note,
    show,
)
from ._session import opened
from ._unconfirmed import note_unconfirmed


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
    template: options.NewTemplate = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Create a sandbox; it runs when the command returns."""
    if owner is None:
        fail(["A sandbox needs an owner: name a Discord user with --owner or SANDBOX_OWNER."], ExitCode.USAGE)
    request = _Creation(owner, name, ttl, guild or (), frozenset(map(str.strip, protected or ())), template)
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
    template: str | None

    async def check(self, core: Core, guilds: Sequence[GuildAccess]) -> None:
        """Raise what `create` would raise now; last `ConfirmationNeeded`, for a server not in `protected`."""
        actor = caller.actor(self.owner, core.settings)
        check = core.manager.check_create
        unconfirmed = [access for access in guilds if access.guild_id not in self.protected]
        for each, confirmed in ((guilds, True), (unconfirmed, False)):
            await check(
                actor,
                name=self.name,
                ttl=self.ttl,
                template=self.template,
                guilds=each,
                confirmed=confirmed,
            )

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
            template=request.template,
        )
