"""A file that prepares a shell for embedded servers, whose addresses are others at each start."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .embedded._private import write_private
from .embedded._programs import postgres_programs


@contextmanager
def shell_file(directory: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Keep the file `shell` with these settings, by field name, in the directory while entered.

    `sandboxctl` and `psql` come last on the path: a bot's own Python stays before ours.
    """
    programs = f"{Path(sys.executable).parent}{os.pathsep}{postgres_programs()}"
    lines = [f"export {name.upper()}={shlex.quote(value)}" for name, value in settings.items()]
    file = directory / "shell"
    write_private(file, "\n".join((*lines, f"export PATH=$PATH{os.pathsep}{shlex.quote(programs)}", "")))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
