"""`share` and `unshare`: let a colleague see a sandbox or work in it, and take that away again."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.manager import Colleague, Sharing, utc_now
from sandbox_core.manager.rules import SHARE
from sandbox_core.models import ShareAccess
from sandbox_core.settings import Settings

from ..discord_rest import TokenMissingError, TokenRefusedError, discord_rest
from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from ._exit import fail, run, usage
from ._screen import Line, busy, emit, note, show
from ._session import opened

_COLLEAGUE = "The colleague's Discord user id."
_UserId = Annotated[str, typer.Argument(metavar="USER_ID", help=_COLLEAGUE, callback=options.user_id)]


def share(
    name: options.Name,
    user: _UserId,
    *,
    see: Annotated[
        bool, typer.Option("--see", help="They may look: its events, calls and dead letters. The default.")
    ] = False,
    use: Annotated[
        bool, typer.Option("--use", help="They may also work in it, with credentials of their own.")
    ] = False,
    owner: options.Owner = None,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="The operator vouches that this is a person; Discord is not asked."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Let a colleague see a sandbox, or work in it: sandboxctl share NAME USER_ID --use."""
    if see and use:
        raise typer.BadParameter("either --see or --use, which includes it")
    if unchecked and owner is not None:
        fail(["--unchecked is only for the operator."], ExitCode.USAGE)
    access = ShareAccess.USE if use else ShareAccess.SEE
    with busy("Sharing"):
        shared = run(_share(name, user, access, owner, unchecked=unchecked))
    sandbox = shared.sandbox
    found = sandbox.share_of(user)
    if as_json:
        emit(json.shared(shared, utc_now()))
        return
    whom = user if found is None else found.shown_name
    does = "work in" if access is ShareAccess.USE else "see"
    show(Line(f"{whom} may {'already' if shared.already else 'now'} {does} {sandbox.name}."))
    if access is ShareAccess.USE:
        note(f"\nTheir own credentials: sandboxctl connect --owner {user} {sandbox.name}")


def unshare(
    name: options.Name,
    user: _UserId,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Take a colleague's access to a sandbox away, and cut the connections with their credentials."""
    with busy("Taking it away"):
        left = run(_unshare(name, user, owner))
    if as_json:
        emit(json.shared(left, utc_now()))
        return
    show(Line(f"{left.sandbox.name} is not shared with {user} any more. Their credentials are refused."))


async def _share(name: str, user: str, access: ShareAccess, owner: str | None, *, unchecked: bool) -> Sharing:
    # The sandboxes' NATS server is told to end connections.
    async with opened(NatsUse.SANDBOXES) as core:
        actor = caller.actor(owner, core.settings)
        sandbox = await core.manager.get(name)
        # First: a caller without the right learns nothing about the user.
        core.manager.check_may_manage(actor, sandbox, SHARE)
        colleague = Colleague(user) if unchecked else await _colleague(core.settings, user)
        return await core.manager.share(actor, str(sandbox.id), colleague, access)


async def _unshare(name: str, user: str, owner: str | None) -> Sharing:
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.manager.unshare(caller.actor(owner, core.settings), name, user)


async def _colleague(settings: Settings, user: str) -> Colleague:
    """Ask Discord who this is. Raises `CommandFailed` when it can't be asked."""
    try:
        async with discord_rest(settings) as discord:
            found = await discord.get(f"/users/{user}")
    except TokenMissingError as error:
        raise usage(
            "DISCORD_TOKEN is not set, so Discord can't be asked who that is. "
            "Set it, or let the operator (no --owner) vouch for it with --unchecked."
        ) from error
    except TokenRefusedError as error:
        raise usage(str(error)) from error
    if found is None:
        return Colleague(user, exists=False)
    name = str(found.get("global_name") or found.get("username") or "")
    return Colleague(user, name, is_bot=bool(found.get("bot")))
