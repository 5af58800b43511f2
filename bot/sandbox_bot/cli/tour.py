"""`tour`: shows the life of a sandbox offline."""

from __future__ import annotations

from typing import Annotated

import typer

from .._loading import loading
from ..exit_codes import ExitCode
from ._exit import fail
from ._loop import run_on_fast_loop

# As in the container image, which has neither the simulator nor the servers.
_NO_TOUR = (
    "The tour needs the local Discord, which this installation leaves out; it comes with: "
    "pip install 'discord-server-sandboxes[embedded]'"
)


def tour(
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay up at the end, and print what else can be done there.")
    ] = False,
) -> None:
    """Show one sandbox's life offline: embedded servers, the bot, and a local Discord."""
    try:
        with loading():
            from ..tour import play  # noqa: PLC0415 - loads discord.py, and the local Discord
    except ModuleNotFoundError as error:
        if error.name != "discord_sim":
            raise
        fail([_NO_TOUR], ExitCode.REFUSED)
    raise typer.Exit(run_on_fast_loop(play(keep=keep)))
