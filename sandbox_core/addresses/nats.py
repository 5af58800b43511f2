"""NATS' address: one server, or several of a cluster, separated by commas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from ._text import AddressError, Endpoint, endpoint, split

_SCHEMES = ("nats", "tls")
_PORT = 4222


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """The servers' addresses and the login: a name and a password, a token, or neither."""

    endpoints: tuple[Endpoint, ...]
    tls: tuple[bool, ...]
    """For each server whether TLS is required; the other servers may ask for it, too."""
    user: str | None
    password: SecretStr | None
    token: SecretStr | None
    variable: str = "NATS_URL"
    """The setting with this address."""

    @classmethod
    def parse(cls, text: str, *, variable: str = "NATS_URL") -> NatsAddress:
        """Read an address. Raises `AddressError`."""
        servers = [server.strip() for server in text.split(",") if server.strip()]
        if not servers:
            raise AddressError("It is empty.")
        endpoints: list[Endpoint] = []
        tls: list[bool] = []
        logins: set[tuple[str | None, str | None, str | None]] = set()
        if any("://" not in server for server in servers[1:]):
            raise AddressError(
                "Every server starts with nats:// or tls://; a comma in a password is written %2C."
            )
        for server in servers:
            fields = split(server, _SCHEMES)
            if fields.path or fields.options:
                raise AddressError("Nothing may follow the port of a server.")
            place = endpoint(fields.hosts)
            if place.is_socket:
                raise AddressError("A unix socket can't be used for NATS.")
            endpoints.append(Endpoint(place.host, place.port or _PORT))
            tls.append(fields.scheme == "tls")
            password = fields.password.get_secret_value() if fields.password else ""
            if fields.has_password and fields.user:
                logins.add((fields.user, password, None))
            elif fields.has_password and password:
                raise AddressError("A password needs a user's name before the colon.")
            elif fields.user:
                logins.add((None, None, fields.user))
        if len(logins) > 1:
            # Servers that the cluster announces later have no login of their own, so one must be right for
            # all.
            raise AddressError("All its servers need the same login: give it with one of them, or with each.")
        user, given, token = logins.pop() if logins else (None, None, None)
        return cls(
            endpoints=tuple(endpoints),
            tls=tuple(tls),
            user=user,
            password=None if given is None else SecretStr(given),
            token=SecretStr(token) if token else None,
            variable=variable,
        )

    @classmethod
    def of(cls, address: NatsAddress | SecretStr | str) -> NatsAddress:
        """Return the address itself, or parse the text. Raises `AddressError`."""
        if isinstance(address, NatsAddress):
            return address
        return cls.parse(address if isinstance(address, str) else address.get_secret_value())

    @property
    def where(self) -> str:
        """The hosts with their ports, for people."""
        return ", ".join(map(str, self.endpoints))

    @property
    def who(self) -> str:
        """The user who logs in, for people."""
        return self.user or ("the holder of a token" if self.token else "nobody")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for nats-py's `connect`, which would not decode a login in the addresses."""
        servers = [
            f"{'tls' if tls else 'nats'}://{each}" for each, tls in zip(self.endpoints, self.tls, strict=True)
        ]
        given: dict[str, Any] = {"servers": servers}
        if self.user is not None:
            given["user"] = self.user
            given["password"] = self.password.get_secret_value() if self.password else ""
        if self.token is not None:
            given["token"] = self.token.get_secret_value()
        return given

    def url_of(self, user: str, password: str) -> str:
        """Return the address with another login, for a client on another machine."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return ",".join(
            f"{'tls' if tls else 'nats'}://{login}@{each}"
            for each, tls in zip(self.endpoints, self.tls, strict=True)
        )

    def secrets(self) -> Iterator[str]:
        """Yield everything that must never be shown."""
        for secret in (self.password, self.token):
            if secret is not None and secret.get_secret_value():
                yield secret.get_secret_value()
