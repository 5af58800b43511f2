"""The columns of the table `sandboxes` that say which sandboxes are being reset, and with which template."""

from __future__ import annotations

from uuid import UUID

from sandbox_core.models import EVENTS_DROPPED, EVENTS_DROPPED_SINCE, Resetting, Sandbox

from .errors import translating
from .pool import Connection
from .sandboxes import COLUMNS, sandbox_from_row


async def set_resetting(
    connection: Connection, sandbox_id: UUID, resetting: Resetting, template: str
) -> None:
    """Change how far the sandbox's reset is, and with which template it is made."""
    with translating():
        await connection.execute(
            "UPDATE sandboxes SET resetting = $2, template = $3 WHERE id = $1",
            sandbox_id,
            resetting.value,
            template,
        )


async def made_anew(connection: Connection, sandbox_id: UUID) -> None:
    """Store that the sandbox's schema is new, and that the sandbox stores nothing."""
    with translating():
        await connection.execute(
            "UPDATE sandboxes SET resetting = $2, metadata = metadata - $3::text - $4::text WHERE id = $1",
            sandbox_id,
            Resetting.REST.value,
            EVENTS_DROPPED,
            EVENTS_DROPPED_SINCE,
        )
        # It may have been full; what it stores now is measured again.
        await connection.execute("DELETE FROM sandbox_storage WHERE sandbox_id = $1", sandbox_id)


async def unfinished(connection: Connection) -> list[Sandbox]:
    """Return the running sandboxes whose reset has not ended."""
    with translating():
        rows = await connection.fetch(
            f"""
            SELECT {COLUMNS} FROM sandboxes AS s
            WHERE s.resetting <> '' AND s.status = 'running' ORDER BY s.id
            """  # noqa: S608 (a constant)
        )
    return [sandbox_from_row(row) for row in rows]
