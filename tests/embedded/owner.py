"""A process that owns embedded servers, for tests of how they end with it.

    python owner.py MODE DATA_DIR

Prints one line of JSON when the servers answer: their addresses and process ids. Then it waits to be ended
(`wait`), or raises (`raise`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox_bot.embedded import EmbeddedServerError, embedded_servers


async def main(mode: str, data_dir: Path) -> None:
    async with embedded_servers(data_dir, fast=True) as servers:
        every = (servers.postgres, servers.valkey, servers.nats)
        print(
            json.dumps(
                {
                    "database_url": servers.database_url,
                    "redis_url": servers.redis_url,
                    "nats_url": servers.nats_url,
                    "servers": [server.pid for server in every],
                    "guards": [parent_of(server.pid) for server in every],
                }
            ),
            flush=True,
        )
        if mode == "raise":
            raise RuntimeError("the body failed")
        await asyncio.Event().wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


if __name__ == "__main__":
    os.umask(0o077)
    try:
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
    except EmbeddedServerError as error:
        sys.exit(str(error))
