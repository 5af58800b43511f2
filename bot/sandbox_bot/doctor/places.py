"""Host, port, user and database of a server's address, without its password."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

_PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379, "nats": 4222, "tls": 4222}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is. `user` and `database` are empty where the address names none."""

    where: str
    user: str = ""
    database: str = ""


def place(address: SecretStr) -> Place:
    """Read an address; of several servers, all are named."""
    parts = [urlsplit(part.strip()) for part in address.get_secret_value().split(",")]
    where = []
    for url in parts:
        host = url.hostname or "?"
        # An IPv6 address has colons of its own.
        shown = f"[{host}]" if ":" in host else host
        where.append(f"{shown}:{url.port or _PORTS.get(url.scheme, 443)}")
    first = parts[0]
    return Place(", ".join(where), unquote(first.username or ""), unquote(first.path.removeprefix("/")))
