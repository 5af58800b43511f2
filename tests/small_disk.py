"""A real file system that is soon full, for servers that have to meet one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A directory with a file system of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._fillers = (directory / "filler", directory / "last-bytes")

    def fill(self) -> None:
        """Leave no room at all."""
        for filler, size in zip(self._fillers, (65536, 512), strict=True):
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    # No space left on device: what is wanted.
                    continue

    def clear(self) -> None:
        """Give the room back."""
        for filler in self._fillers:
            filler.unlink()


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a file system in memory there; skips the test where this user may not."""
    directory.mkdir()
    options = f"size={megabytes}m,mode=0755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a file system")
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
