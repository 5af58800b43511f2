"""`migrate`: brings the database up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.settings import load_database_settings

from ..exit_codes import ExitCode
from ..migrate import MigrationError
from ..migrate import migrate as apply_migrations
from . import _json as json
from . import _options as options
from ._exit import CommandFailed
from ._exit import run as run_command
from ._screen import Line, busy, emit, show


def migrate(
    down: Annotated[bool, typer.Option("--down", help="Undo the latest migration instead.")] = False,
    as_json: options.Json = False,
) -> None:
    """Bring the database named by DATABASE_URL up to date; a second run changes nothing."""
    with busy("Migrating"):
        run_command(_migrate(down))
    if as_json:
        emit(json.migrated(down=down))
        return
    show(Line("The latest migration is undone." if down else "The database is up to date."))


async def _migrate(down: bool) -> None:
    try:
        settings = load_database_settings()
        await apply_migrations(settings.database, down=down, schema=settings.sandbox_control_schema)
    except MigrationError as error:
        raise CommandFailed([str(error)], ExitCode.DEPENDENCY) from None
