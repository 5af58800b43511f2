"""`register-guild`: sends a server's live events to a sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from sandbox_core.bootstrap import Core
from sandbox_core.event_router import LastEvent
from sandbox_core.manager import REGISTER, Registration, utc_now
from sandbox_core.models import GuildAccess, Sandbox
from sandbox_core.settings import Settings
from sandbox_core.validation import parse_guild_id

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from ._discord import guild_accesses
from ._diversion import diversion, label, last_events
from ._exit import fail, run
from ._screen import Line, busy, confirm, emit, must_be_answerable, show
from ._session import opened
from ._unconfirmed import note_unconfirmed
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
    if unchecked and owner is not None:
        vain = "--unchecked is only for the operator: only Discord knows whether --owner may do this."
        fail([vain], ExitCode.USAGE)
    must_be_answerable(yes)
    request = _Request(guild=guild, owner=owner, unchecked=unchecked, protected=protected)
    reference = name
    if not yes:
        with busy("Asking Discord"):
            sandbox, access, last = run(_check(name, request))
        until = moment(sandbox.expires_at)
        confirm("Go on?", yes=yes, told=diversion([access], sandbox.name, until, last))
        # By id: another sandbox may have the name since the question.
        reference = str(sandbox.id)
    with busy("Registering"):
        registered, access = run(_register(reference, request))
    if as_json:
        emit(json.registered(registered, access, utc_now(), checked=not unchecked))
        return
    since = "already" if registered.already else "now"
    show(Line(f"The events of {label(access)} {since} go to {registered.sandbox.name}."))
    note_unconfirmed(registered)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The arguments of `register-guild`."""

    guild: str
    owner: str | None
    unchecked: bool
    protected: str | None

    @property
    def confirmed(self) -> bool:
        """Whether the server's id was given a second time."""
        return self.protected is not None and self.protected.strip() == self.guild.strip()

    async def access(self, settings: Settings) -> GuildAccess:
        """Ask Discord what the bot and the user may do in the server now."""
        if self.unchecked:
            return GuildAccess(parse_guild_id(self.guild), bot_is_member=True, caller_manages=False)
        (access,) = await guild_accesses(settings, [self.guild], self.owner)
        return access


async def _check(name: str, request: _Request) -> tuple[Sandbox, GuildAccess, dict[str, LastEvent]]:
    async with opened() as core:
        sandbox = await _sandbox_of(core, name, request)
        access = await request.access(core.settings)
        # Before the question: a caller without the right gets no question.
        actor = caller.actor(request.owner, core.settings)
        await core.manager.check_register_guild(actor, sandbox, access, confirmed=request.confirmed)
        return sandbox, access, await last_events(core, [access])


async def _register(reference: str, request: _Request) -> tuple[Registration, GuildAccess]:
    async with opened() as core:
        sandbox = await _sandbox_of(core, reference, request)
        # Again after the question, which may be old: Discord's present answer counts.
        access = await request.access(core.settings)
        registered = await core.manager.register_guild(
            caller.actor(request.owner, core.settings), str(sandbox.id), access, confirmed=request.confirmed
        )
        return registered, access


async def _sandbox_of(core: Core, reference: str, request: _Request) -> Sandbox:
    """Return the sandbox, if the caller may use it. This check comes first, as it does not ask Discord."""
    sandbox = await core.manager.get(reference)
    core.manager.check_may_manage(caller.actor(request.owner, core.settings), sandbox, REGISTER)
    core.manager.check_running(sandbox)
    return sandbox
