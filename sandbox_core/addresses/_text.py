"""The common grammar of the three kinds of addresses.

    scheme://user:password@host:port,host:port/path?name=value&name=value

The sentences of an `AddressError` never repeat the text: any piece of it may belong to a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from pydantic import SecretStr

_NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_HOST = re.compile(r"[\w.-]+\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")


class AddressError(ValueError):
    """The text is no usable address. `problem` is a sentence without any piece of the text."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host with its port, or the directory of a unix socket. Its text may be shown to a person."""

    host: str
    port: int | None = None

    @property
    def is_socket(self) -> bool:
        """Whether it is the directory of a unix socket."""
        return self.host.startswith("/")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and not self.is_socket else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of an address; all but `hosts` are decoded."""

    scheme: str
    user: str | None
    password: SecretStr | None
    """None when there is none or an empty one: servers treat both the same."""
    has_password: bool
    """Whether a colon follows the user's name."""
    hosts: str
    path: str
    options: Mapping[str, str]


def split(text: str, schemes: Collection[str]) -> Fields:
    """Split an address into its fields. Raises `AddressError`."""
    text = text.strip()
    if _BLANK.search(text):
        raise AddressError("A space or a line break in it is written %20 or %0A.")
    scheme, found, rest = text.partition("://")
    if not found or not _SCHEME.match(scheme) or scheme.lower() not in schemes:
        raise AddressError(f"It begins with {' or '.join(f'{each}://' for each in schemes)}.")
    if "#" in rest:
        raise AddressError("A # in it is written %23.")
    match = re.search(r"[/?]", rest)
    end = len(rest) if match is None else match.start()
    authority, behind = rest[:end], rest[end:]
    if "@" in behind:
        # Either the password contains / or ?, or the path contains @: clients read this differently.
        raise AddressError("Write / as %2F, ? as %3F and @ as %40 in a user name, a password or a value.")
    # Only a password or a user's name can contain an @ here, so the last @ ends them.
    login, _, hosts = authority.rpartition("@")
    user, colon, password = login.partition(":")
    path, _, query = behind.partition("?")
    return Fields(
        scheme=scheme.lower(),
        user=decoded(user) or None,
        password=SecretStr(decoded(password)) if password else None,
        has_password=bool(colon),
        hosts=hosts,
        path=decoded(path.removeprefix("/")),
        options=dict(_options(query)),
    )


def decoded(text: str) -> str:
    """Decode the percent-encoding. Raises `AddressError`."""
    if _NOT_ENCODED.search(text):
        raise AddressError("A % in it is written %25: two hex digits follow every %.")
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        plain = "\0"
    if "\0" in plain:
        raise AddressError("A % in it is written %25: a %-code here is no valid text.") from None
    return plain


def _options(query: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for option in query.split("&") if query else ():
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise AddressError("The parameters after the ? have the form name=value, joined by &.")
        # A + is a space here, as in forms and in PostgreSQL's and Redis' clients.
        name = decoded(name.replace("+", " "))
        if name in seen:
            raise AddressError("A parameter after the ? must not be given twice.")
        seen.add(name)
        yield name, decoded(value.replace("+", " "))


def endpoint(text: str) -> Endpoint:
    """Read `host`, `host:port`, `[::1]:port` or an encoded socket directory. Raises `AddressError`."""
    if text.startswith("["):
        inside, closing, port = text[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            raise AddressError("An IPv6 host must be in brackets, as in [::1]:5432.")
        return Endpoint(_ipv6(decoded(inside)), _port(port[1:]) if len(port) > 1 else None)
    host, _, port = text.partition(":")
    if ":" in port:
        raise AddressError("A : in a password is allowed only before the @, and an IPv6 host has brackets.")
    host = decoded(host)
    if not host:
        raise AddressError("The host's name is missing.")
    if not host.startswith("/") and not _HOST.match(host):
        raise AddressError("The host's name is invalid.")
    return Endpoint(host, _port(port) if port else None)


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise AddressError("The text in brackets is no IPv6 host.") from None


def _port(text: str) -> int:
    if not _PORT.match(text) or not 1 <= int(text) <= 65_535:
        raise AddressError("The port after the host's last colon must be a number from 1 to 65535.")
    return int(text)


def port_of(text: str) -> int:
    """Read a port. Raises `AddressError`."""
    return _port(text)


def once(name: str, *given: str | None) -> str | None:
    """Return the only given value, or None. Raises `AddressError` when there are several."""
    values = [value for value in given if value]
    if len(values) > 1:
        raise AddressError(f"It gives the {name} twice, before and after the ?: leave one of them out.")
    return values[0] if values else None
