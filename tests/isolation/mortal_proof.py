"""A proof that is killed at a step; its settings come as JSON on standard input."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from sandbox_core.bootstrap import NatsUse, open_core
from sandbox_core.isolation import prove
from sandbox_core.models import Actor
from sandbox_core.settings import load_settings


async def _prove(task: dict[str, Any]) -> None:
    left = task["times"]

    async def faults(point: str) -> None:
        nonlocal left
        left -= point == task["die_at"]
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = load_settings(**task["settings"])
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.TRIAL) as core:
        manager: Any = core.manager
        manager._tools = replace(manager._tools, faults=faults)
        await prove(core, Actor("cli:root"), faults=faults)


if __name__ == "__main__":
    asyncio.run(_prove(json.load(sys.stdin)))
    print("survived", flush=True)
