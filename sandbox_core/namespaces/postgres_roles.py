"""A PostgreSQL role for each sandbox, which can log in to the tenants' database and owns its tables there.

What the bot's own role does there touches catalogues only: no trigger, policy, rule or function of a sandbox
ever runs as the bot. Nothing waits for a lock that a sandbox can take, so there are no advisory locks here.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from sandbox_core.addresses import PostgresAddress
from sandbox_core.credentials import CredentialsKey, scram_verifier
from sandbox_core.errors import DependencyUnavailable, IsolationImpossible, LoginRefused
from sandbox_core.guests import ROLE_LENGTH, ROLES, guest_role
from sandbox_core.models import Sandbox
from sandbox_core.postgres import Connection, Pool, connected, login, transaction
from sandbox_core.postgres.errors import translating
from sandbox_core.postgres.pool import CONNECT_TIMEOUT

from .postgres_abilities import ABILITIES, TRUSTS, lacking_abilities, quoted
from .postgres_role_state import STORE, RoleLimits, RoleState, all_fit
from .postgres_sessions import end_overdue, end_sessions, logged_in
from .tenant_removal import unhindered

_TRIES = 4
_LOCK_WITHIN_MS = 200
_AT_ONCE = 500
_TEMPORARY = "1GB"
"""The most temporary files of one session, where the server lets the bot limit them."""


class SandboxRoles:
    """The roles `sandbox_{short_id}` of one installation; see `Credentials`."""

    def __init__(
        self,
        tenants: Pool,
        address: PostgresAddress,
        key: CredentialsKey,
        *,
        installation: str,
        limits: RoleLimits | None = None,
        reached: PostgresAddress | None = None,
    ) -> None:
        """`address` is the server's as workers reach it, `reached` as the bot does, where that is another.

        `installation` marks the roles of this one.
        """
        self._tenants = tenants
        self._address = address
        self._reached = reached or address
        self._key = key
        self._mark = installation
        self.limits = limits or RoleLimits()
        self._asks_for_passwords = False

    @property
    def where(self) -> str:
        """The server's host and port."""
        return str(getattr(self._tenants, "where", "")) or self._address.where

    async def require(self) -> None:
        """Do as `Credentials` documents."""
        async with connected(self._tenants) as connection:
            found = await connection.fetchrow(ABILITIES)
        assert found is not None  # noqa: S101 (the role that asks exists)
        lacking = lacking_abilities(found)
        if not lacking and not self._asks_for_passwords:
            if await self._lets_anybody_in():
                lacking.append(TRUSTS)
            else:
                self._asks_for_passwords = True
        for problem, mend in lacking:
            raise IsolationImpossible(STORE, self.where, problem, mend)

    async def _lets_anybody_in(self) -> bool:
        """Return whether a role that does not exist is refused for that, and not for its password.

        With the method `trust` the server does not ask for one.
        """
        nobody = PostgresAddress.parse(self._address.url_of("sandbox_nobody", secrets.token_hex(8)))
        try:
            connection = await login.connect(nobody, timeout=CONNECT_TIMEOUT)
        except (LoginRefused, DependencyUnavailable, OSError) as error:
            # From here the workers' address may lead nowhere; then this is not known.
            return "there is no such role" in str(error) and "password" not in str(error)
        await connection.close()
        return True

    async def create(self, connection: Connection, sandbox: Sandbox) -> None:
        """Create the role in the caller's transaction, and give it the schema, which exists, with its tables.

        Raises asyncpg's `DuplicateObjectError` when there is a role with the name.
        """
        role = sandbox.schema_name
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        statements = [
            f"CREATE ROLE {role} NOCREATEDB NOCREATEROLE NOINHERIT {self._attributes(sandbox)}",
            self._comment(role, sandbox, since=""),
            f"GRANT {role} TO CURRENT_USER",
            f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
            *await self._gifts(connection, role),
            *await self._defaults(connection, sandbox),
        ]
        await connection.execute(";".join(statements))
        await self._finish(connection, sandbox, role)

    async def give(self, connection: Connection, sandbox: Sandbox) -> None:
        """Give the role its new schema in the caller's transaction; make the role if it is missing.

        What it has set for its own sessions goes: with some of that none could begin, nor a template run.
        """
        role = sandbox.schema_name
        if role not in await self._known(connection, [role]):
            await self.create(connection, sandbox)
            return
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        statements = [
            f"ALTER ROLE {role} RESET ALL",
            f"ALTER ROLE {role} IN DATABASE {database} RESET ALL",
            *await self._defaults(connection, sandbox),
            *await self._gifts(connection, role),
        ]
        await connection.execute(";".join(statements))

    async def _gifts(self, connection: Connection, role: str) -> list[str]:
        """Return the statements that give a role the schema of its name, with its tables."""
        tables = await connection.fetch(
            "SELECT c.relname::text AS name FROM pg_class AS c "
            "WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r'",
            role,
        )
        return [
            f"GRANT USAGE, CREATE ON SCHEMA {role} TO {role}",
            *(f"ALTER TABLE {role}.{quoted(table['name'])} OWNER TO {role}" for table in tables),
        ]

    @asynccontextmanager
    async def session(self, sandbox: Sandbox) -> AsyncIterator[Connection]:
        """Log in as the sandbox, and yield the connection. Raises `DependencyUnavailable`."""
        address = self._reached.as_user(sandbox.schema_name, self._key.password(STORE, sandbox))
        connection = await logged_in(self._tenants, address, sandbox.schema_name)
        try:
            with translating(where=self.where):
                yield connection
        finally:
            connection.terminate()

    async def end_sessions(self, sandbox: Sandbox) -> None:
        """End the sandbox's connections; new ones are let in."""
        await end_sessions(self._tenants, sandbox.schema_name, older=False, looks=1)

    async def make(self, sandbox: Sandbox) -> None:
        """Do as `Credentials` documents."""
        role = sandbox.schema_name
        async with transaction(self._tenants) as connection:
            known = await self._known(connection, [role])
            if role not in known:
                await self.create(connection, sandbox)
        wanted = {guest_role(role, guest): guest for guest in ("", *sandbox.guests)}
        gone = sorted(known.keys() - wanted.keys())
        if any(known[each].can_login for each in gone):
            # Whoever acted as the sandbox's role may have changed its password, and have logged in with that:
            # all of its sessions end, and whoever has the right password comes back.
            await self._change(role, *map(_shut, known), self._comment(role, sandbox, since=""))
            await end_sessions(self._tenants, role, older=False)
            known = {name: each.unfinished() for name, each in known.items()}
        for name, guest in wanted.items():
            if name in known or guest:
                await self._make_one(sandbox, name, guest, known.get(name))
        for each in gone:
            await self._forget(each, heir=role)

    async def _make_one(self, sandbox: Sandbox, name: str, guest: str, now: RoleState | None) -> None:
        since = "" if now is None else now.since_of(sandbox)
        async with connected(self._tenants) as connection:
            defaults = await self._defaults(connection, sandbox, guest)
        changes = [f"ALTER ROLE {name} {self._attributes(sandbox, guest)}", *defaults]
        if guest:
            changes.insert(0, f"GRANT {sandbox.schema_name} TO {name}")
        if now is None:
            # It inherits, so that it is let into the database; its sessions begin as the sandbox's role.
            new = f"CREATE ROLE {name} NOCREATEDB NOCREATEROLE INHERIT"
            changes = [new, f"GRANT {name} TO CURRENT_USER", *changes]
        await self._change(sandbox.schema_name, *changes, self._comment(name, sandbox, since=since))
        if not since:
            async with connected(self._tenants) as connection:
                await self._finish(connection, sandbox, name)

    async def _forget(self, guest: str, *, heir: str) -> None:
        """Remove the role of a guest who is no more. What it owns becomes the sandbox's."""
        # Of a role that is gone none could be found; a process that shut it may have died before it did this.
        await end_sessions(self._tenants, guest, older=False)
        while True:
            # In parts: one transaction can't lock any number of them.
            async with connected(self._tenants) as connection:
                rows = await connection.fetch(
                    "SELECT format('ALTER LARGE OBJECT %s OWNER TO %I', l.oid, $2::text) AS statement "
                    "FROM pg_largeobject_metadata AS l WHERE l.lomowner = to_regrole($1) LIMIT $3",
                    guest,
                    heir,
                    _AT_ONCE,
                )
                if not rows:
                    break
                await connection.execute(";".join(row["statement"] for row in rows))
        async with (
            transaction(self._tenants) as connection,
            unhindered(self._tenants, connection, self._mark),
        ):
            await connection.execute(
                f"REASSIGN OWNED BY {guest} TO {heir}; DROP OWNED BY {guest}; DROP ROLE {guest}"
            )

    async def _change(self, role: str, *statements: str) -> None:
        """Change the role in one transaction.

        A sandbox may change its own role, too, and leave its transaction open, which would hold this one up
        for ever. Then its sessions that have written something are ended.
        """
        hindered = False
        for tries_left in reversed(range(_TRIES)):
            try:
                async with transaction(self._tenants) as connection:
                    await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_WITHIN_MS}")
                    if hindered:
                        # Right before: this waits in front of whoever comes back and does it again.
                        await connection.execute(
                            "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a "
                            "WHERE left(a.usename, $2) = $1 AND a.backend_xid IS NOT NULL",
                            role,
                            ROLE_LENGTH,
                        )
                    await connection.execute(";".join(statements))
                return
            except DependencyUnavailable as error:
                hindered = isinstance(error.__cause__, asyncpg.LockNotAvailableError)
                # The other: "tuple concurrently updated", also by another process of the bot.
                if not tries_left or not (
                    hindered or isinstance(error.__cause__, asyncpg.InternalServerError)
                ):
                    raise

    async def _defaults(self, connection: Connection, sandbox: Sandbox, guest: str = "") -> list[str]:
        """Return the statements that set what the role's new sessions begin with."""
        about = await connection.fetchrow(
            "SELECT quote_ident(current_database()) AS database, "
            "has_parameter_privilege('temp_file_limit', 'SET') AS limits_files"
        )
        assert about is not None  # noqa: S101 (a row without a table)
        role = sandbox.schema_name
        settings = {
            "search_path": role,
            "statement_timeout": str(int(self.limits.statement_timeout.total_seconds() * 1000)),
            # Its owner can lift it, to make room.
            "default_transaction_read_only": "on" if sandbox.is_full(STORE) else "off",
        }
        if about["limits_files"]:
            # Unlike the others, a session can't lift it; an administrator must have granted it.
            settings["temp_file_limit"] = f"'{_TEMPORARY}'"
        if guest:
            settings["role"] = role
        every = f"ALTER ROLE {guest_role(role, guest)} IN DATABASE {about['database']} SET"
        return [f"{every} {name} = {value}" for name, value in settings.items()]

    async def _finish(self, connection: Connection, sandbox: Sandbox, role: str) -> None:
        """Note since when the login holds: whoever began to log in before may have used an older one.

        Outside of the transaction that changed it: a client can stretch its login over a minute.
        """
        since = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::text")
        await connection.execute(self._comment(role, sandbox, since=str(since)))

    async def cut(self, sandbox: Sandbox) -> None:
        """Do as `Credentials` documents."""
        await end_sessions(self._tenants, sandbox.schema_name, older=True)

    async def revoke(self, sandbox: Sandbox) -> None:
        """Do as `Credentials` documents."""
        await self.revoke_role(sandbox.schema_name)

    async def revoke_role(self, role: str) -> None:
        """Do the same for a role's name."""
        async with connected(self._tenants) as connection:
            known = await self._known(connection, [role])
            if not known:
                return
        open_ones = [name for name, each in known.items() if each.can_login]
        if open_ones:
            await self._change(role, *map(_shut, open_ones))
        # Once more after a former call only for what that has not ended.
        await end_sessions(self._tenants, role, older=False, looks=2 if open_ones else 1)

    async def drop(self, connection: Connection, role: str) -> None:
        """Drop the role, which nobody uses any more, and its guests', with all that they own here."""
        # The guests' first: they are members of the sandbox's.
        for name in sorted(await self._known(connection, [role]), reverse=True):
            # What the role owns is the bot's to drop as its member.
            await connection.execute(
                f"GRANT {name} TO CURRENT_USER; DROP OWNED BY {name} CASCADE; DROP ROLE {name}"
            )

    async def lacking(self, sandboxes: Collection[Sandbox]) -> set[UUID]:
        """Do as `Credentials` documents.

        It also ends sessions that slipped in during a rotation, and those that break the limit of statements.
        """
        ours = [sandbox for sandbox in sandboxes if self._key.made(sandbox)]
        await end_overdue(
            self._tenants, [each.schema_name for each in sandboxes], longest=self.limits.statement_timeout
        )
        async with connected(self._tenants) as connection:
            known = await self._known(connection, [sandbox.schema_name for sandbox in ours])
            await connection.execute(
                "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a "
                "JOIN unnest($1::text[], $2::float8[]) AS r (name, since) ON r.name = a.usename "
                "WHERE extract(epoch FROM a.backend_start) < r.since",
                [name for name, role in known.items() if role.since],
                [float(role.since) for role in known.values() if role.since],
            )
        found: dict[str, dict[str, RoleState]] = defaultdict(dict)
        for name, each in known.items():
            found[name[:ROLE_LENGTH]][name] = each
        return {sandbox.id for sandbox in ours if not all_fit(sandbox, found[sandbox.schema_name])}

    def variables(self, sandbox: Sandbox, guest: str = "") -> Mapping[str, str]:
        """Return `DATABASE_URL`."""
        password = self._key.password(STORE, sandbox, guest)
        return {"DATABASE_URL": self._address.url_of(guest_role(sandbox.schema_name, guest), password)}

    async def connections(self, sandbox: Sandbox) -> int:
        """Return how many connections the sandbox has now, with its guests'."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename ~ $2 AND left(usename, $3) = $1"
        async with connected(self._tenants) as connection:
            return int(await connection.fetchval(query, sandbox.schema_name, ROLES, ROLE_LENGTH))

    async def names(self) -> list[str]:
        """Return the names of the sandboxes' roles here, also where only a guest's is left."""
        async with connected(self._tenants) as connection:
            return sorted({name[:ROLE_LENGTH] for name in await self._known(connection, None)})

    def _attributes(self, sandbox: Sandbox, guest: str = "") -> str:
        until = sandbox.expires_at.isoformat()
        attributes = f"LOGIN CONNECTION LIMIT {self.limits.connections} VALID UNTIL '{until}'"
        if not self._key.made(sandbox):
            return attributes
        return f"{attributes} PASSWORD '{scram_verifier(self._key.password(STORE, sandbox, guest))}'"

    def _comment(self, role: str, sandbox: Sandbox, *, since: str) -> str:
        at = f"; since {since}" if since else ""
        full = ", full" if sandbox.is_full(STORE) else ""
        text = f"{self._mark}; generation {sandbox.generation} of {sandbox.key_id}{full}{at}"
        return f"COMMENT ON ROLE {role} IS '{_escaped(text)}'"

    async def _known(self, connection: Connection, names: Collection[str] | None) -> dict[str, RoleState]:
        """Return the roles of the sandboxes with these names, or of all, with their guests'."""
        rows = await connection.fetch(
            """
            SELECT r.rolname::text AS name, r.rolcanlogin AS can_login, r.rolconnlimit AS connections,
                   extract(epoch FROM r.rolvaliduntil)::float8 AS valid_until, d.description AS note
            FROM pg_roles AS r
            JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
            WHERE r.rolname ~ $3 AND starts_with(d.description, $1)
              AND ($2::text[] IS NULL OR left(r.rolname, $4) = ANY ($2))
            """,
            f"{self._mark};",
            None if names is None else list(names),
            ROLES,
            ROLE_LENGTH,
        )
        return {row["name"]: RoleState.of(row, self.limits) for row in rows}


def _shut(role: str) -> str:
    return f"ALTER ROLE {role} NOLOGIN"


def _escaped(text: str) -> str:
    return text.replace("'", "''")
