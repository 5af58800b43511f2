"""Discord's address, for people."""

from __future__ import annotations

from urllib.parse import urlsplit

DISCORD = "https://discord.com"
_PORTS = {"https": 443, "http": 80}


def discord_where(url: str | None) -> str:
    """Return host and port of Discord's API at `url`, by default of Discord itself."""
    address = urlsplit(url or DISCORD)
    return f"{address.hostname}:{address.port or _PORTS.get(address.scheme, 443)}"
