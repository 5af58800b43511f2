"""Tries attacks on PostgreSQL, with a plain client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import asyncpg
from asyncpg import exceptions as pg

from sandbox_core.addresses import PostgresAddress
from sandbox_core.errors import DependencyUnavailable, LoginRefused
from sandbox_core.postgres import login

from .attacks import Attack, CameBack, Tried, afterwards, kind_of, try_all
from .postgres_attacks import POSTGRES

WITHIN = 5.0
"""The limit in seconds to connect, and for one statement."""
CLIENT = "isolation-trial"
"""What the servers' logs show of the clients here."""


_TREASURE = "treasure"
_GUILD = "100000000000000001"


async def attack_postgres(
    own: PostgresAddress, other: PostgresAddress, tried: list[Tried], *, bot: str, control: str
) -> None:
    """Try everything of `POSTGRES` with the login `own` against the sandbox of `other`.

    `bot` is the bot's role, `control` its own database. Raises when the server goes away.
    """
    theirs = await connect(other)
    try:
        names = await _prepared(theirs, own.who, other.who, bot=bot, control=control)
        attacker = PostgresAttacker(own, names)
        try:
            await try_all(POSTGRES, attacker.attempt, tried)
        finally:
            attacker.close()
        tried.append(afterwards(await _changed(theirs, names["other_lob"])))
        # A login that has ended meanwhile would explain every refusal.
        (await connect(own)).terminate()
    finally:
        theirs.terminate()


async def _prepared(
    theirs: asyncpg.Connection[Any], own: str, other: str, *, bot: str, control: str
) -> dict[str, Any]:
    """Give the neighbour something to steal. Return the names for the statements."""
    await theirs.execute("INSERT INTO communities (guild_id, name) VALUES ($1, $2)", _GUILD, _TREASURE)
    await theirs.execute(
        "CREATE FUNCTION secret() RETURNS text LANGUAGE sql AS $$SELECT 'treasure'$$; ANALYZE communities"
    )
    superuser = await theirs.fetchval("SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY oid LIMIT 1")
    return {
        "own": own,
        "other": other,
        "bot": quoted(bot),
        "bot_text": text(bot),
        "superuser": quoted(superuser),
        "database": quoted(await theirs.fetchval("SELECT current_database()")),
        "control": quoted(control),
        "control_text": text(control),
        "other_lob": await theirs.fetchval("SELECT lo_from_bytea(0, $1)", _TREASURE.encode()),
        "other_pid": await theirs.fetchval("SELECT pg_backend_pid()"),
    }


async def _changed(theirs: asyncpg.Connection[Any], lob: int) -> str:
    """Return what is no longer as `_prepared` left it, or ""."""
    if theirs.is_closed():
        return "its session was ended"
    try:
        rows = await theirs.fetch("SELECT guild_id, name FROM communities")
        kept = await theirs.fetchval("SELECT lo_get($1)", lob)
    except pg.PostgresError as error:
        if _is_lost(error):
            return "its session was ended"
        return f"it can't read its own data ({error.sqlstate})"
    if [tuple(row) for row in rows] != [(_GUILD, _TREASURE)]:
        return "its rows are others"
    return "" if kept == _TREASURE.encode() else "its large object is another"


async def connect(address: PostgresAddress) -> asyncpg.Connection[Any]:
    """Connect. Raises `LoginRefused` or `DependencyUnavailable`."""
    return await login.connect(
        address, timeout=WITHIN, command_timeout=WITHIN, server_settings={"application_name": CLIENT}
    )


class PostgresAttacker:
    """Tries statements with a sandbox's own login."""

    def __init__(self, address: PostgresAddress, names: Mapping[str, object], *, undo: bool = True) -> None:
        """With `undo`, each attack is in a transaction that is undone."""
        self._address = address
        self._names = _Names(names)
        self._undo = undo
        self._session: asyncpg.Connection[Any] | None = None

    async def attempt(self, attack: Attack) -> CameBack:
        """Return what came back of the attack's last statement. Raises when the server is away."""
        *before, last = (text.format_map(self._names) for text in attack.tried)
        if last.startswith("LOGIN "):
            return await self._log_in(*last.split()[1:])
        if self._session is None or self._session.is_closed():
            self._session = await connect(self._address)
        session = self._session
        came = CameBack()
        try:
            if self._undo:
                await session.execute("BEGIN")
            for statement in before:
                await session.execute(statement)
            # Any statement can be prepared or not: only what can be prepared tells its rows.
            rows = await session.fetch(last)
            came = CameBack(said=f"the server did it, with {kind_of(rows)}", told=bool(rows))
        except pg.PostgresError as error:
            if _is_lost(error):
                raise
            came = CameBack((str(error.sqlstate),), f"{error.sqlstate}: {error.args[0]}")
            if self._undo:
                await session.execute("ROLLBACK")
        finally:
            if not (self._undo and came.refusals):
                # What went through may have changed the session; and a transaction ends with it.
                self.close()
        return came

    async def _log_in(self, user: str, database: str) -> CameBack:
        other = replace(self._address, user=_unquoted(user), database=_unquoted(database))
        try:
            session = await connect(other)
        except LoginRefused as error:
            cause = error.__cause__
            return CameBack((str(getattr(cause, "sqlstate", "")),), error.problem)
        except DependencyUnavailable as error:
            if not isinstance(error.__cause__, pg.PostgresError) or _is_lost(error.__cause__):
                raise
            return CameBack((str(error.__cause__.sqlstate),), error.problem)
        session.terminate()
        return CameBack(said="the server let it in", told=True)

    def close(self) -> None:
        """End the session, with whatever it is in."""
        if self._session is not None:
            self._session.terminate()
            self._session = None


class _Names(dict[str, object]):
    """Leaves other braces as they are."""

    def __missing__(self, name: str) -> str:
        return "{" + name + "}"


def _is_lost(error: pg.PostgresError) -> bool:
    """Return whether the server, or somebody at it, ended the session."""
    ended = isinstance(error, pg.PostgresConnectionError | pg.OperatorInterventionError)
    return ended and not isinstance(error, pg.QueryCanceledError)


def quoted(name: str) -> str:
    """Return the name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def text(name: str) -> str:
    """Return the name as a text in a statement."""
    return "'" + name.replace("'", "''") + "'"


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
