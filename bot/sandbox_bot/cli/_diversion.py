"""What is said before servers' events are taken away from production."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_core.models import GuildAccess


def label(access: GuildAccess) -> str:
    """A server for a person: its name where known, and always its id."""
    return f"{access.name} ({access.guild_id})" if access.name else access.guild_id


def diversion(accesses: Sequence[GuildAccess], sandbox: str, until: str) -> list[str]:
    """The lines to show before the question; `until` is when the sandbox's life ends."""
    servers = ", ".join(label(access) for access in accesses)
    return [
        f"The live events of {servers} will go to {sandbox}, and no longer to production,",
        f"until {until}, or until `sandboxctl unregister-guild` gives them back.",
        "How many events production loses by that is not known here: only the running bot sees them.",
    ]
