"""What is said before servers' events are taken away from production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sandbox_core.bootstrap import Core
from sandbox_core.event_router import LastEvent
from sandbox_core.last_event_text import last_event_text
from sandbox_core.models import GuildAccess


def label(access: GuildAccess) -> str:
    """A server for a person: its name where known, and always its id."""
    return f"{access.name} ({access.guild_id})" if access.name else access.guild_id


async def last_events(core: Core, accesses: Sequence[GuildAccess]) -> dict[str, LastEvent]:
    """What is known of each server's last day, by its id."""
    return {access.guild_id: await core.last_events.of(access.guild_id) for access in accesses}


def diversion(
    accesses: Sequence[GuildAccess], sandbox: str, until: str, last: Mapping[str, LastEvent]
) -> list[str]:
    """The lines to show before the question; `until` is when the sandbox's life ends.

    `last` tells of each server by its id.
    """
    servers = ", ".join(label(access) for access in accesses)
    return [
        f"The live events of {servers} will go to {sandbox}, and no longer to production,",
        f"until {until}, or until `sandboxctl unregister-guild` gives them back.",
        *(last_event_text(last[access.guild_id], label(access)) for access in accesses),
    ]
