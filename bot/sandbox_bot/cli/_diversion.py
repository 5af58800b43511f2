"""The texts before servers' events leave production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sandbox_core.bootstrap import Core
from sandbox_core.event_router import LastEvent
from sandbox_core.last_event_text import last_event_text
from sandbox_core.models import GuildAccess


def label(access: GuildAccess) -> str:
    """A server's name if known, and its id."""
    return f"{access.name} ({access.guild_id})" if access.name else access.guild_id


async def last_events(core: Core, accesses: Sequence[GuildAccess]) -> dict[str, LastEvent]:
    """Return the last event of each server within a day, by the server's id."""
    return {access.guild_id: await core.last_events.of(access.guild_id) for access in accesses}


def diversion(
    accesses: Sequence[GuildAccess], sandbox: str, until: str, last: Mapping[str, LastEvent]
) -> list[str]:
    """Return the lines before the question; `until` is the end of the sandbox's life.

    `last` has the last event of each server, by its id.
    """
    servers = ", ".join(label(access) for access in accesses)
    return [
        f"The live events of {servers} will go to {sandbox}, and no longer to production,",
        f"until {until}, or until `sandboxctl unregister-guild` gives them back.",
        *(last_event_text(last[access.guild_id], label(access)) for access in accesses),
    ]
