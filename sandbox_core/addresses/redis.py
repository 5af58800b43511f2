"""Redis' address."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from ._text import AddressError, Endpoint, endpoint, once, split

_SCHEMES = ("redis", "rediss")
_PORT = 6379


def _yes_or_no(text: str) -> bool:
    try:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _certificates(text: str) -> str:
    if text not in {"none", "optional", "required"}:
        raise ValueError(text)
    return text


_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "socket_keepalive": _yes_or_no,
    "health_check_interval": int,
    "max_connections": int,
    "protocol": int,
    "client_name": str,
}
_TLS_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": _certificates,
    "ssl_check_hostname": _yes_or_no,
}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The server's address and the login."""

    endpoint: Endpoint
    user: str | None
    password: SecretStr | None
    database: int
    tls: bool
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Options for redis-py's connections; `ssl_password` is a secret."""
    variable: str = "REDIS_URL"
    """The setting with this address."""

    @classmethod
    def parse(cls, text: str, *, variable: str = "REDIS_URL") -> RedisAddress:
        """Read an address. Raises `AddressError`."""
        fields = split(text, _SCHEMES)
        tls = fields.scheme == "rediss"
        options = {name: value for name, value in fields.options.items() if value}
        password = fields.password.get_secret_value() if fields.password else None
        password = once("password", password, options.pop("password", None))
        user = once("user", fields.user, options.pop("username", None))
        database = once("database", fields.path, options.pop("db", None)) or "0"
        if not (database.isascii() and database.isdigit()):
            raise AddressError("The database after the host must be a number.")
        place = endpoint(fields.hosts)
        if place.is_socket:
            raise AddressError("A unix socket can't be used for Redis.")
        return cls(
            endpoint=Endpoint(place.host, place.port or _PORT),
            user=user,
            password=SecretStr(password) if password else None,
            database=int(database),
            tls=tls,
            options=_read(options, tls=tls),
            variable=variable,
        )

    @classmethod
    def of(cls, address: RedisAddress | str) -> RedisAddress:
        """Return the address itself, or parse the text. Raises `AddressError`."""
        return address if isinstance(address, RedisAddress) else cls.parse(address)

    @property
    def where(self) -> str:
        """The host with its port, for people."""
        return str(self.endpoint)

    @property
    def who(self) -> str:
        """The user who logs in, for people; by default Redis' user `default`."""
        return self.user or "default"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for redis-py's connections."""
        return {
            **self.options,
            "host": self.endpoint.host,
            "port": self.endpoint.port,
            "username": self.user,
            "password": None if self.password is None else self.password.get_secret_value(),
            "db": self.database,
        }

    def url_of(self, user: str, password: str) -> str:
        """Return the address with another login, for a client on another machine."""
        scheme = "rediss" if self.tls else "redis"
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{scheme}://{login}@{self.endpoint}/{self.database}"

    def secrets(self) -> Iterator[str]:
        """Yield everything that must never be shown."""
        if self.password is not None:
            yield self.password.get_secret_value()
        if "ssl_password" in self.options:
            yield self.options["ssl_password"]


def _read(options: Mapping[str, str], *, tls: bool) -> dict[str, object]:
    known = {**_OPTIONS, **_TLS_OPTIONS} if tls else _OPTIONS
    found: dict[str, object] = {}
    for name, value in options.items():
        if name in _TLS_OPTIONS and not tls:
            raise AddressError(f"{name} is for TLS: the address must then start with rediss://.")
        if name not in known:
            raise AddressError(f"The parameters after the ? may be {', '.join(sorted(known))}.")
        try:
            found[name] = known[name](value)
        except ValueError:
            raise AddressError(f"The value of {name} can't be used.") from None
    return found
