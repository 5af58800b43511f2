"""The table `production_token`: which token of production's own unmodified bot is the present one."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import translating
from .pool import Connection


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The last token that was made; the token itself is stored nowhere."""

    generation: int
    key_id: str
    """The fingerprint of the key that it was made with."""
    valid: bool
    """False: it was revoked."""


async def read(connection: Connection, *, lock: bool = False) -> TokenRow | None:
    """Return the present row, None before the first token; `lock` keeps others from changing it meanwhile."""
    with translating():
        if lock:
            # Also before there is a row that could be locked.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('production token', 0))")
        row = await connection.fetchrow("SELECT generation, key_id, valid FROM production_token")
    return None if row is None else TokenRow(**row)


async def write(connection: Connection, row: TokenRow) -> None:
    """Change which token is the present one."""
    with translating():
        await connection.execute(
            """
            INSERT INTO production_token (generation, key_id, valid) VALUES ($1, $2, $3)
            ON CONFLICT (one) DO UPDATE SET
                generation = excluded.generation, key_id = excluded.key_id, valid = excluded.valid
            """,
            row.generation,
            row.key_id,
            row.valid,
        )
