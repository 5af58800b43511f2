"""Host, port, user and database of a server's address, without its password."""

from __future__ import annotations

import re
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


def place(address: SecretStr, *, several: bool = False) -> Place:
    """Read an address, or with `several` a list of them; every host is named."""
    text = address.get_secret_value()
    # A comma may be part of a password; only a list of servers is split at it.
    urls = [urlsplit(part.strip()) for part in (text.split(",") if several else [text])]
    where = [
        host if re.search(r":\d+\Z", host) else f"{host}:{_PORTS.get(url.scheme, 443)}"
        for url in urls
        for host in url.netloc.rpartition("@")[2].split(",")
    ]
    first = urls[0]
    return Place(", ".join(where), unquote(first.username or ""), unquote(first.path.removeprefix("/")))
