"""PostgreSQL's address, in libpq's format."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import SecretStr

from ._text import AddressError, Endpoint, endpoint, once, port_of, split

_SCHEMES = ("postgresql", "postgres")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Only libpq knows these: asyncpg would send them to the server, which does not know them.
_OF_LIBPQ_ALONE = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "gssdelegation",
        "gssencmode",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "require_auth",
        "requirepeer",
        "requiressl",
        "sslcertmode",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_OF_THE_CLIENT = frozenset(
    {
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslnegotiation",
        "sslcrl",
        "sslpassword",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "passfile",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "service",
    }
)
"""The parameters that asyncpg uses itself; it sends any other to the server for the session."""
_FOR_ANY_CLIENT = frozenset({"sslmode", "sslnegotiation", "target_session_attrs"})
_OF_THE_SERVER = _FOR_ANY_CLIENT | {
    "sslrootcert",
    "sslcrl",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """The server's address and the login; None means that libpq's variables or files give the value."""

    endpoints: tuple[Endpoint, ...]
    """Tried in this order; empty when libpq's service file names them."""
    user: str | None
    password: SecretStr | None
    database: str | None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The parameters after the `?`; `sslpassword` is a secret."""
    variable: str = "DATABASE_URL"
    """The setting with this address."""

    @classmethod
    def parse(cls, text: str, *, variable: str = "DATABASE_URL") -> PostgresAddress:
        """Read an address. Raises `AddressError`."""
        fields = split(text, _SCHEMES)
        options = {name: value for name, value in fields.options.items() if value}
        for name in options:
            if name in _OF_LIBPQ_ALONE:
                raise AddressError(f"The parameter {name} is not known here: leave it out.")
            if not _PARAMETER.match(name):
                raise AddressError("The name of a parameter after the ? has only letters, digits and _.")
        if options.get("sslmode", "prefer") not in _SSL_MODES:
            raise AddressError(f"sslmode must be one of {', '.join(_SSL_MODES)}.")
        password = fields.password.get_secret_value() if fields.password else None
        password = once("password", password, options.pop("password", None))
        found = cls(
            endpoints=tuple(_endpoints(fields.hosts, options)),
            user=once("user", fields.user, options.pop("user", None)),
            password=SecretStr(password) if password else None,
            database=once(
                "database", fields.path, options.pop("dbname", None), options.pop("database", None)
            ),
            options=options,
            variable=variable,
        )
        if not found.endpoints and "service" not in options:
            raise AddressError("The host's name is missing.")
        return found

    @classmethod
    def of(cls, address: PostgresAddress | str) -> PostgresAddress:
        """Return the address itself, or parse the text. Raises `AddressError`."""
        return address if isinstance(address, PostgresAddress) else cls.parse(address)

    @property
    def where(self) -> str:
        """The hosts with their ports, for people."""
        shown = [Endpoint(each.host, each.port or _default_port()) for each in self.endpoints]
        return ", ".join(map(str, shown)) or f"the service {self.options['service']}"

    @property
    def who(self) -> str:
        """The user who logs in, for people."""
        if self.user is not None:
            return self.user
        if "service" in self.options:
            return "the service's user"
        try:
            return os.environ.get("PGUSER") or getpass.getuser()
        except (KeyError, OSError):
            # A user id in a container may have no name.
            return "nobody"

    @property
    def tls_optional(self) -> bool:
        """Whether a server without TLS will do, too."""
        return self.options.get("sslmode", "prefer") in {"disable", "allow", "prefer"}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for `asyncpg.connect`; its `dsn` has only the options."""
        given: dict[str, Any] = {"user": self.user, "database": self.database}
        if self.password is not None:
            given["password"] = self.password.get_secret_value()
        if self.endpoints:
            given["host"] = [each.host for each in self.endpoints]
            if any(each.port for each in self.endpoints):
                given["port"] = [each.port or _default_port() for each in self.endpoints]
        if self.options:
            given["dsn"] = f"postgresql:?{urlencode(self.options)}"
        return given

    def url_of(self, user: str, password: str) -> str:
        """Return the address with another login, for a client on another machine: no file of this one."""
        hosts = ",".join(quote(str(each), safe=":[]") for each in self.endpoints)
        options = {name: value for name, value in self.options.items() if name in _FOR_ANY_CLIENT}
        query = f"?{urlencode(options)}" if options else ""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{hosts}/{quote(self.database or self.who, safe='')}{query}"

    def as_user(self, user: str, password: str) -> PostgresAddress:
        """Return the address with another login, for a client on this machine."""
        # What a session begins with is the role's, and a certificate is of the present login.
        options = {name: value for name, value in self.options.items() if name in _OF_THE_SERVER}
        return replace(
            self,
            user=user,
            password=SecretStr(password),
            database=self.database or self.who,
            options=options,
        )

    @property
    def session_parameters(self) -> dict[str, str]:
        """Return the options that are sent to the server."""
        return {name: value for name, value in self.options.items() if name not in _OF_THE_CLIENT}

    def secrets(self) -> Iterator[str]:
        """Yield everything that must never be shown."""
        if self.password is not None:
            yield self.password.get_secret_value()
        if "sslpassword" in self.options:
            yield self.options["sslpassword"]


def _endpoints(hosts: str, options: dict[str, str]) -> Iterator[Endpoint]:
    """Yield the hosts before the path, or else those of `?host=` and `?port=`."""
    ports = [port_of(port) for port in options.pop("port", "").split(",") if port]
    named = once("host", hosts, options.pop("host", None))
    if named is None:
        if ports:
            raise AddressError("A port after the ? needs a host there.")
        return
    found = [endpoint(text) for text in named.split(",")]
    if ports and (len(ports) > len(found) or len(ports) not in {1, len(found)}):
        raise AddressError("Give one port for all hosts, or one for each.")
    if ports and any(each.port for each in found):
        raise AddressError("It gives the port twice, before and after the ?: leave one of them out.")
    for each, port in zip_longest(found, ports, fillvalue=None):
        assert each is not None  # noqa: S101 (there are never more ports than hosts)
        yield Endpoint(each.host, each.port or port or (ports[0] if ports else None))


def _default_port() -> int:
    given = os.environ.get("PGPORT", "")
    return int(given) if given.isdigit() else 5432
