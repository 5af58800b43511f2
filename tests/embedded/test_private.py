"""What embedded servers write is for their user alone, whatever the umask is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandbox_bot.embedded import embedded_servers


def modes(directory: Path) -> dict[str, int]:
    found = {}
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            found[str(path.relative_to(directory))] = stat.S_IMODE(path.stat().st_mode)
    return found


async def test_nobody_else_reads_them(tmp_path: Path) -> None:
    place = tmp_path / "local"
    (place / "logs").mkdir(parents=True)
    # As an earlier version left them.
    (place / "logs").chmod(0o755)
    (place / "logs" / "nats.log").touch(mode=0o644)
    before = os.umask(0)
    try:
        async with embedded_servers(place, fast=True):
            found = modes(place)
    finally:
        os.umask(before)
    # The directory itself may be one that its owner has made.
    del found["."]
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    assert {"logs", "logs/nats.log", "nats/nats.conf", "postgres", "valkey"} <= found.keys()


async def test_a_new_data_directory_is_private(tmp_path: Path) -> None:
    async with embedded_servers(tmp_path / "new", fast=True):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == (0o700 if os.geteuid() else 0o711)
