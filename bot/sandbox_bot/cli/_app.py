"""The command tree."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import __version__
from . import _streams, connect, doctor, guilds, process, psql, sandboxes, upkeep

app = typer.Typer(
    name="sandboxctl",
    help="Isolated sandboxes for the developers of a Discord bot.",
    no_args_is_help=True,
    # Typer's own tracebacks show local variables, and some of them contain passwords.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SANDBOXES, _WORKERS, _UPKEEP, _PROCESS = "Sandboxes", "Workers", "Upkeep", "The bot"

app.command("create", rich_help_panel=_SANDBOXES)(sandboxes.create)
app.command("list", rich_help_panel=_SANDBOXES)(sandboxes.list_)
app.command("status", rich_help_panel=_SANDBOXES)(sandboxes.status)
app.command("register-guild", rich_help_panel=_SANDBOXES)(guilds.register_guild)
app.command("unregister-guild", rich_help_panel=_SANDBOXES)(guilds.unregister_guild)
app.command("extend", rich_help_panel=_SANDBOXES)(sandboxes.extend)
app.command("destroy", rich_help_panel=_SANDBOXES)(sandboxes.destroy)
app.command("connect", rich_help_panel=_WORKERS)(connect.connect)
# Everything after the sandbox's name belongs to the command to run.
app.command(
    "exec",
    rich_help_panel=_WORKERS,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)(connect.exec_)
app.command(
    "psql",
    rich_help_panel=_WORKERS,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)(psql.psql)
app.command("cleanup", rich_help_panel=_UPKEEP)(upkeep.cleanup)
app.command("orphans", rich_help_panel=_UPKEEP)(upkeep.orphans)
app.command("audit", rich_help_panel=_UPKEEP)(upkeep.audit)
app.command("doctor", rich_help_panel=_UPKEEP)(doctor.doctor)
app.command("run", rich_help_panel=_PROCESS)(process.run)
app.command("tour", rich_help_panel=_PROCESS)(process.tour)
app.command("migrate", rich_help_panel=_PROCESS)(process.migrate)


def _show_version(asked: bool) -> None:
    if asked:
        _streams.write(f"sandboxctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Isolated sandboxes for the developers of a Discord bot."""


def main() -> None:
    """Run the command line; the console script calls this."""
    _streams.prepare()
    try:
        app(prog_name="sandboxctl")
    except _streams.OutputLost as lost:
        sys.exit(_streams.give_up(lost))
