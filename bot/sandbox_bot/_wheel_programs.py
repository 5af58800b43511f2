"""Finds programs from wheels (dbmate, nats-server) where the installer put them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path


def find_wheel_program(distribution: str, program: str) -> Path | None:
    """Return the path of `program` from the wheel `distribution`, or None when it is not installed.

    The path comes from the wheel's record of its files. So another program of the same name on PATH is never
    used, and the virtual environment need not be active.
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
