"""The command tree."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import __version__, _streams
from . import events, recordings
from .audit import audit
from .calls import calls
from .cleanup import cleanup
from .connect import connect
from .create import create
from .deadletters import deadletters
from .destroy import destroy
from .doctor import doctor
from .exec import exec_
from .extend import extend
from .gateway import gateway
from .level import level
from .list import list_
from .migrate import migrate
from .orphans import orphans
from .production_token import production_token
from .psql import psql
from .record import record
from .register_guild import register_guild
from .reset import reset
from .rotate import rotate
from .run import run
from .sessions import sessions
from .share import share, unshare
from .status import status
from .tenant_nats import tenant_nats
from .tour import tour
from .unregister_guild import unregister_guild

app = typer.Typer(
    name="sandboxctl",
    help="Isolated sandboxes for the developers of a Discord bot.",
    no_args_is_help=True,
    # Typer's own tracebacks show local variables, and some of them contain passwords.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SANDBOXES, _WORKERS, _UPKEEP, _PROCESS = "Sandboxes", "Workers", "Upkeep", "The bot"

app.command("create", rich_help_panel=_SANDBOXES)(create)
app.command("list", rich_help_panel=_SANDBOXES)(list_)
app.command("status", rich_help_panel=_SANDBOXES)(status)
app.command("register-guild", rich_help_panel=_SANDBOXES)(register_guild)
app.command("unregister-guild", rich_help_panel=_SANDBOXES)(unregister_guild)
app.command("extend", rich_help_panel=_SANDBOXES)(extend)
app.command("reset", rich_help_panel=_SANDBOXES)(reset)
app.command("share", rich_help_panel=_SANDBOXES)(share)
app.command("unshare", rich_help_panel=_SANDBOXES)(unshare)
app.command("destroy", rich_help_panel=_SANDBOXES)(destroy)
app.command("connect", rich_help_panel=_WORKERS)(connect)
app.command("rotate", rich_help_panel=_WORKERS)(rotate)
app.command("level", rich_help_panel=_WORKERS)(level)
app.command("calls", rich_help_panel=_WORKERS)(calls)
app.command("sessions", rich_help_panel=_WORKERS)(sessions)
# Everything after the sandbox's name belongs to the command to run.
app.command(
    "exec",
    rich_help_panel=_WORKERS,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)(exec_)
app.command("deadletters", rich_help_panel=_WORKERS)(deadletters)
app.add_typer(events.app, name="events", rich_help_panel=_WORKERS)
app.command("record", rich_help_panel=_WORKERS)(record)
app.add_typer(recordings.app, name="recordings", rich_help_panel=_WORKERS)
app.command(
    "psql",
    rich_help_panel=_WORKERS,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)(psql)
app.command("cleanup", rich_help_panel=_UPKEEP)(cleanup)
app.command("orphans", rich_help_panel=_UPKEEP)(orphans)
app.command("audit", rich_help_panel=_UPKEEP)(audit)
app.command("doctor", rich_help_panel=_UPKEEP)(doctor)
app.command("run", rich_help_panel=_PROCESS)(run)
app.command("gateway", rich_help_panel=_PROCESS)(gateway)
app.command("production-token", rich_help_panel=_PROCESS)(production_token)
app.command("tour", rich_help_panel=_PROCESS)(tour)
app.command("migrate", rich_help_panel=_PROCESS)(migrate)
app.command("tenant-nats", rich_help_panel=_PROCESS)(tenant_nats)


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
