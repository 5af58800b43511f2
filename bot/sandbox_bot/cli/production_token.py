"""`production-token`: what production's own unmodified bot needs for the gateway endpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from .._streams import write
from . import _caller as caller
from . import _options as options
from ._environment import as_dotenv, as_exports, as_fish
from ._exit import run, usage
from ._production import access, token_of
from ._screen import Line, busy, confirm, emit, must_be_answerable, note, on_terminal, show
from ._session import opened
from .connect import Format

_WRITERS = {Format.SH: as_exports, Format.DOTENV: as_dotenv, Format.FISH: as_fish}


def production_token(
    *,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make a new token; what has the old one is cut.")
    ] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Let no token be valid, and cut what has one; asks first.")
    ] = False,
    owner: options.Owner = None,
    yes: options.Yes = False,
    form: Annotated[
        Format, typer.Option("--format", help="sh: exports for eval; dotenv: a .env file; json; fish.")
    ] = Format.SH,
    as_json: options.Json = False,
) -> None:
    """Print the environment of production's own ordinary bot: it gets the servers that no sandbox has.

    The first call makes its token. For the bot's owner only.
    """
    if revoke:
        _revoke(owner, yes=yes, rotate=rotate, as_json=as_json)
        return
    with busy("Rotating" if rotate else "Looking it up"):
        found, too_many = run(access(owner, rotate=rotate))
    if as_json or form is Format.JSON:
        emit(found.variables)
    else:
        write(_WRITERS[form](found.variables), newline=False)
    if too_many:
        typer.echo(too_many, err=True)
    if rotate:
        note("The token is a new one. The old one and its connections are cut.")
    elif found.made:
        note("The token is a new one. From now on this shows the same.")
    if on_terminal() and form is Format.SH:
        note("\nTo run the bot with these: sandboxctl exec --production -- python mybot.py")


def _revoke(owner: str | None, *, yes: bool, rotate: bool, as_json: bool) -> None:
    must_be_answerable(yes)
    if rotate:
        run(_both())
    told = ["Production's bot can't connect to the gateway endpoint, nor call Discord through it, any more."]
    confirm("Revoke production's token?", yes=yes, told=told)
    with busy("Revoking"):
        revoked = run(_revoked(owner))
    if as_json:
        emit({"revoked": revoked})
        return
    show(Line("The token and its connections are cut." if revoked else "There was no valid token."))


async def _both() -> None:
    raise usage("--rotate makes a new token, --revoke leaves none: say one of them.")


async def _revoked(owner: str | None) -> bool:
    async with opened() as core:
        return await token_of(core).revoke(caller.actor(owner, core.settings))
