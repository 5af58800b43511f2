"""Discord's address, for people."""

from __future__ import annotations

from urllib.parse import urlsplit

DISCORD = "https://discord.com"
_PORTS = {"https": 443, "http": 80}


def discord_where(url: str | None) -> str:
    """Return host and port of Discord's API at `url`, by default of Discord itself."""
    parts = urlsplit(url or DISCORD)
    return f"{parts.hostname}:{parts.port or _PORTS.get(parts.scheme, 443)}"
