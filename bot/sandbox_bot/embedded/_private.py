"""Files and directories for this user alone, whatever the umask is, and whatever an earlier version left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

FILE, DIRECTORY = 0o600, 0o700


def make_private(directory: Path) -> None:
    """Make the directory if it is missing, and close it to other users."""
    directory.mkdir(mode=DIRECTORY, parents=True, exist_ok=True)
    directory.chmod(DIRECTORY)


def open_private(path: Path, flags: int, mode: str) -> IO[Any]:
    """Open the file, which is made if it is missing, and close it to other users."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE)
    file = os.fdopen(descriptor, mode)
    if os.fstat(descriptor).st_uid == os.geteuid():
        os.fchmod(descriptor, FILE)
    return file


def write_private(path: Path, text: str) -> None:
    """Write a text file for this user alone, in place of what it had."""
    with open_private(path, os.O_WRONLY | os.O_TRUNC, "w") as file:
        file.write(text)


def secret_in(path: Path, make: Callable[[], str]) -> str:
    """Return the text of the file; a missing one gets what `make` returns, completely or not at all."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = make()
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    write_private(draft, text)
    draft.rename(path)
    return text
