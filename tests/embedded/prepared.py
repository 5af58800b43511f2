"""A cluster of PostgreSQL that a run makes once, for servers whose first start is not what is tested.

`initdb` takes two thirds of what it takes to start the three servers and to stop them again.
"""

from __future__ import annotations

import asyncio
import fcntl
import subprocess
from pathlib import Path

import pytest

from sandbox_bot.embedded import PostgresServer


async def put_cluster(data_dir: Path, directories: pytest.TempPathFactory) -> None:
    """Have the first start of servers in `data_dir` find a cluster that an earlier one could have left."""
    base = directories.getbasetemp()
    # Each of xdist's processes has its own in the run's.
    shared = base.parent if base.name.startswith("popen-") else base
    cluster, unfinished = shared / "cluster", shared / "cluster.unfinished"
    with (shared / "cluster.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if not cluster.exists():
            server = PostgresServer(unfinished, shared / "cluster.log", fast=True)
            await server.start()
            await server.stop()
            unfinished.rename(cluster)
    data_dir.mkdir(exist_ok=True)
    # With its owner: started by root, PostgreSQL runs as somebody else.
    copy = ["cp", "-a", str(cluster), str(data_dir / "postgres")]
    await asyncio.to_thread(subprocess.run, copy, check=True)
