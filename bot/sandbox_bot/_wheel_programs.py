"""Finds programs that wheels carry (dbmate, nats-server) where the installer put them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path


def find_wheel_program(distribution: str, program: str) -> Path | None:
    """The path of `program` as installed from the wheel `distribution`, or None where it is not installed.

    Read from the wheel's own record of its files, so a program of the same name elsewhere on PATH is never
    taken, and the environment need not be activated.
    """
    try:
        files = metadata.files(distribution)
    except metadata.PackageNotFoundError:
        return None
    for file in files or ():
        if file.stem == program and file.suffix in {"", ".exe"}:
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    return None
