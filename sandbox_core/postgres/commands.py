"""The tables of commands: what the bots of sandboxes have registered, and what Discord has of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from .errors import translating
from .pool import Connection

Key = tuple[int, str]
"""The kind and the name of a command: a server has one command of each."""

_POLL = 0.05

_WANTED = """
    SELECT DISTINCT ON (m.guild_id, c.kind, c.name)
        m.guild_id, c.kind, c.name, c.id, c.digest
    FROM sandbox_guild_mapping AS m
    JOIN sandboxes AS s ON s.id = m.sandbox_id AND s.status = 'running' AND s.expires_at > $1
    JOIN sandbox_commands AS c ON c.sandbox_id = s.id AND (c.guild_id IS NULL OR c.guild_id = m.guild_id)
    WHERE c.sent IS NOT NULL
    ORDER BY m.guild_id, c.kind, c.name, c.guild_id NULLS LAST
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A command as a sandbox's bot has registered it."""

    id: str
    """The id that the bot knows."""
    guild_id: str | None
    """None: globally."""
    kind: int
    name: str
    version: str
    body: Mapping[str, Any]
    """What the bot is shown, without ids and version."""
    sent: Mapping[str, Any] | None
    """What the servers get; None when they do not have it."""
    digest: str
    """Of `sent`; empty without it."""

    @property
    def key(self) -> Key:
        """Kind and name."""
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Written:
    """A command that Discord has, or may have, because of a sandbox."""

    kind: int
    name: str
    command_id: str | None
    """Discord's id; None while it is not known."""
    known_id: str
    digest: str
    others: bool
    """True: the name is somebody else's in this server, and nothing of it is ours."""

    @property
    def key(self) -> Key:
        """Kind and name."""
        return self.kind, self.name


async def lock(connection: Connection, what: str, *, within: float) -> bool:
    """Take the lock of this name for the connection's session. False when another has it for too long.

    The server gives it back with the session: when the pool gets the connection back, or the process dies.
    """
    until = asyncio.get_running_loop().time() + within
    while True:
        with translating():
            taken: bool = await connection.fetchval(
                "SELECT pg_try_advisory_lock(hashtextextended('sandbox commands ' || $1::text, 0))", what
            )
        if taken or asyncio.get_running_loop().time() >= until:
            return taken
        await asyncio.sleep(_POLL)


async def unlock(connection: Connection, what: str) -> None:
    """Give the lock of this name back."""
    with translating():
        await connection.execute(
            "SELECT pg_advisory_unlock(hashtextextended('sandbox commands ' || $1::text, 0))", what
        )


async def of_sandbox(connection: Connection, sandbox_id: UUID) -> list[Command]:
    """Return what the sandbox's bot has registered, in the order of the ids."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT id, guild_id, kind, name, version, body, sent, digest
            FROM sandbox_commands WHERE sandbox_id = $1 ORDER BY length(id), id
            """,
            sandbox_id,
        )
    return [Command(**row) for row in rows]


async def store(
    connection: Connection, sandbox_id: UUID, removed: Collection[str], changed: Iterable[Command]
) -> bool:
    """Remove and write commands of a sandbox, in a transaction. False when it does not run any more."""
    with translating():
        running = await connection.fetchval(
            "SELECT true FROM sandboxes WHERE id = $1 AND status = 'running'", sandbox_id
        )
        if not running:
            return False
        # A name may go from one command to another.
        changed = list(changed)
        gone = [*removed, *(each.id for each in changed)]
        await connection.execute(
            "DELETE FROM sandbox_commands WHERE sandbox_id = $1 AND id = ANY($2::text[])", sandbox_id, gone
        )
        for each in changed:
            await connection.execute(
                """
                INSERT INTO sandbox_commands
                    (id, sandbox_id, guild_id, kind, name, version, body, sent, digest)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                """,
                each.id,
                sandbox_id,
                each.guild_id,
                each.kind,
                each.name,
                each.version,
                each.body,
                each.sent,
                each.digest,
            )
    return True


async def known_as(
    connection: Connection, sandbox_id: UUID, guild_id: str, command_id: str, key: Key | None
) -> tuple[str, str | None] | None:
    """Return the id and the guild under which the sandbox's bot knows what Discord calls `command_id`.

    Where Discord's command is somebody else's, the bot's one of the same kind and name, `key`, is meant.
    """
    with translating():
        row = await connection.fetchrow(
            """
            WITH written AS (
                SELECT known_id FROM sandbox_guild_commands WHERE guild_id = $2 AND command_id = $3
            )
            SELECT c.id, c.guild_id FROM sandbox_commands AS c
            WHERE c.sandbox_id = $1 AND (c.guild_id IS NULL OR c.guild_id = $2)
                AND (c.id IN (SELECT known_id FROM written) OR (c.kind = $4 AND c.name = $5))
            ORDER BY (c.id IN (SELECT known_id FROM written)) DESC, c.guild_id NULLS LAST
            LIMIT 1
            """,
            sandbox_id,
            guild_id,
            command_id,
            *(key or (0, "")),
        )
    return None if row is None else (row["id"], row["guild_id"])


async def holder(connection: Connection, guild_id: str, *, at: datetime) -> UUID | None:
    """Return the running sandbox that has the guild."""
    with translating():
        found: UUID | None = await connection.fetchval(
            """
            SELECT s.id FROM sandbox_guild_mapping AS m JOIN sandboxes AS s ON s.id = m.sandbox_id
            WHERE m.guild_id = $1 AND s.status = 'running' AND s.expires_at > $2
            """,
            guild_id,
            at,
        )
    return found


async def due(connection: Connection, *, at: datetime) -> list[str]:
    """Return the guilds where Discord does not have what it should, as far as these tables know."""
    with translating():
        rows = await connection.fetch(
            f"""
            WITH wanted AS ({_WANTED})
            SELECT DISTINCT guild_id
            FROM wanted AS w FULL JOIN sandbox_guild_commands AS g USING (guild_id, kind, name)
            WHERE w.id IS NULL OR g.known_id IS NULL OR w.id <> g.known_id OR w.digest <> g.digest
            ORDER BY guild_id
            """,  # noqa: S608 (a constant)
            at,
        )
    return [row["guild_id"] for row in rows]


async def guilds_written(connection: Connection) -> list[str]:
    """Return the guilds that have commands of sandboxes."""
    with translating():
        rows = await connection.fetch(
            "SELECT DISTINCT guild_id FROM sandbox_guild_commands ORDER BY guild_id"
        )
    return [row["guild_id"] for row in rows]


async def written(connection: Connection, guild_id: str) -> list[Written]:
    """Return what Discord has, or may have, in this guild."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT kind, name, command_id, known_id, digest, others
            FROM sandbox_guild_commands WHERE guild_id = $1
            """,
            guild_id,
        )
    return [Written(**row) for row in rows]


async def note(connection: Connection, guild_id: str, rows: Iterable[Written]) -> None:
    """Write what is known of these commands."""
    found = list(rows)
    if not found:
        return
    with translating():
        await connection.executemany(
            """
            INSERT INTO sandbox_guild_commands (guild_id, kind, name, command_id, known_id, digest, others)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (guild_id, kind, name) DO UPDATE SET
                command_id = excluded.command_id, known_id = excluded.known_id,
                digest = excluded.digest, others = excluded.others
            """,
            [(guild_id, e.kind, e.name, e.command_id, e.known_id, e.digest, e.others) for e in found],
        )


async def forget(connection: Connection, guild_id: str, keys: Iterable[Key]) -> None:
    """Discord does not have these, or they are not ours."""
    found = list(keys)
    if not found:
        return
    with translating():
        await connection.executemany(
            "DELETE FROM sandbox_guild_commands WHERE guild_id = $1 AND kind = $2 AND name = $3",
            [(guild_id, *key) for key in found],
        )


async def creates_on(connection: Connection, guild_id: str, day: date) -> int:
    """Return how many commands were made in the guild on this day."""
    with translating():
        found: int | None = await connection.fetchval(
            "SELECT creates FROM sandbox_command_creates WHERE guild_id = $1 AND day = $2", guild_id, day
        )
    return found or 0


async def add_creates(connection: Connection, guild_id: str, day: date, creates: int) -> None:
    """Count commands that were made."""
    with translating():
        await connection.execute(
            """
            INSERT INTO sandbox_command_creates (guild_id, day, creates) VALUES ($1, $2, $3)
            ON CONFLICT (guild_id, day) DO UPDATE SET
                creates = sandbox_command_creates.creates + excluded.creates
            """,
            guild_id,
            day,
            creates,
        )


async def forget_ended(connection: Connection, *, before: date) -> None:
    """Remove what sandboxes had registered that have ended, and the counts of days gone by."""
    with translating():
        await connection.execute(
            """
            DELETE FROM sandbox_commands AS c USING sandboxes AS s
            WHERE s.id = c.sandbox_id AND s.status IN ('expired', 'destroying', 'destroyed')
            """
        )
        await connection.execute("DELETE FROM sandbox_command_creates WHERE day < $1", before)
