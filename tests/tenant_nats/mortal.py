"""A process to be killed at a step of a slot's life; what it is to do comes as JSON on standard input."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

from sandbox_core.postgres import create_pool

from .conftest import bot_process, sandbox_of


async def _live(task: dict[str, Any]) -> None:
    async def faults(step: str) -> None:
        if step == task["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    sandbox = sandbox_of().evolve(id=UUID(task["id"]), expires_at=datetime.fromisoformat(task["expires_at"]))
    pool = await create_pool(task["database_url"])
    async with bot_process(pool, task["url"], faults=faults) as bot:
        await (bot.namespace.provision if task["do"] == "provision" else bot.namespace.drop)(sandbox)


if __name__ == "__main__":
    asyncio.run(_live(json.load(sys.stdin)))
    print("survived", flush=True)
