"""`exec`: runs a command in the environment of a sandbox."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, NoReturn

import typer

from sandbox_core.settings import load_settings

from .. import pointing
from . import _options as options
from ._become import become
from ._exit import run, usage
from ._production import access
from ._servers import secret_variables, worker_addresses
from ._worker import environment_of

_TOKEN = "DISCORD_TOKEN"  # noqa: S105 (the name of a variable)
_CONNECTS_TO_DISCORD = (
    "SANDBOX_CREDENTIALS_KEY is not set, so the sandbox has no token for an ordinary bot: with the "
    "DISCORD_TOKEN of this environment a bot connects to Discord itself, in all its servers."
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _variable(value: str | None) -> str | None:
    if value is not None and not _VARIABLE.match(value):
        raise typer.BadParameter("a variable's name has letters, digits and _, such as BOT_TOKEN")
    return value


def exec_(
    name: options.Name,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND...", help="What to run, and its arguments.")
    ] = None,
    production: Annotated[
        bool,
        typer.Option(
            "--production",
            help="Without NAME: as production's bot, in the servers that no sandbox has; owners only.",
        ),
    ] = False,
    owner: options.Owner = None,
    token_variable: Annotated[
        str | None,
        typer.Option(
            "--token-variable",
            metavar="VARIABLE",
            callback=_variable,
            help="Hand out the sandbox's Discord token under this name as well.",
        ),
    ] = None,
) -> None:
    """Run a command inside a sandbox's environment: sandboxctl exec NAME -- python mybot.py.

    A bot on discord.py, py-cord, nextcord, disnake, hikari, interactions.py, discord.js, Eris or Oceanic
    connects to the sandbox as it is.
    """
    words = command or []
    if production:
        _exec_production([name, *words], owner, token_variable)
    if not words:
        run(_nothing_to_run())
    if words[0].startswith("-") and words[0] != "--":
        run(_option_too_late(words[0]))
    # First: it says plainly which settings are wrong.
    own = run(environment_of(name, owner))
    settings = load_settings()
    # A worker finds the servers also when only `.env` names them.
    variables = worker_addresses(settings) | own
    # A worker with credentials of its own gets none of the bot's.
    without = secret_variables(settings) if "DATABASE_URL" in own else ()
    # The parser leaves this in front of the command.
    if words[0] == "--" and len(words) > 1:
        words = words[1:]
    become(words, variables | _for_ordinary_bots(words, own, token_variable), without=without)


def _exec_production(command: list[str], owner: str | None, token_variable: str | None) -> NoReturn:
    """Run production's own bot. Of the servers it has what its own environment says."""
    found, too_many = run(access(owner))
    if too_many:
        typer.echo(f"Note: {too_many}", err=True)
    pointed = _for_ordinary_bots(command, found.variables, token_variable, has_servers=True)
    without = {f"{name}_FILE" for name in found.variables}
    become(command, found.variables | pointed, without=without)


def _for_ordinary_bots(
    command: Sequence[str],
    own: Mapping[str, str],
    token_variable: str | None,
    *,
    has_servers: bool = False,
) -> dict[str, str]:
    """Return the variables that point a bot at the endpoint, and say what will not work."""
    if _TOKEN not in own:
        if token_variable is not None:
            run(_no_token())
        if os.environ.get(_TOKEN):
            typer.echo(f"Note: {_CONNECTS_TO_DISCORD}", err=True)
        return {}
    guild_ids = "some" if has_servers else own.get("SANDBOX_GUILD_IDS", "")
    for sentence in pointing.warnings(command, own["DISCORD_API_URL"], guild_ids):
        typer.echo(f"Note: {sentence}", err=True)
    named = {} if token_variable is None else {token_variable: own[_TOKEN]}
    return pointing.variables(os.environ, os.pathsep) | named


async def _nothing_to_run() -> None:
    raise usage("There is nothing to run: sandboxctl exec NAME -- python mybot.py")


async def _option_too_late(option: str) -> None:
    raise usage(f"Options of exec come before the sandbox's name: sandboxctl exec {option} … NAME -- COMMAND")


async def _no_token() -> None:
    raise usage(
        "There is no token for an ordinary bot, which --token-variable would name: "
        "SANDBOX_CREDENTIALS_KEY is not set."
    )
