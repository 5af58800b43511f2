"""A process to be killed at a step of a sandbox's life; its settings come as JSON on standard input.

It dies when it comes to the step for the `time`th time: some are taken for each store.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from sandbox_core.bootstrap import NatsUse, open_core
from sandbox_core.manager import Colleague
from sandbox_core.models import Actor, ShareAccess
from sandbox_core.settings import load_settings

ALICE = Actor("200000000000000001", "Alice")
BOB = Colleague("200000000000000002", "Bob")


async def _live(task: dict[str, Any]) -> None:
    left = task["times"]

    async def faults(point: str) -> None:
        nonlocal left
        if point == task["die_at"]:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = load_settings(**task["settings"])
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
        manager: Any = core.manager
        cleanup: Any = core.cleanup
        sides: Any = core.namespaces[2]
        for each in (manager, cleanup):
            each._tools = replace(each._tools, faults=faults)
        sides._new._lending.faults = faults
        match task["do"]:
            case "create":
                await manager.create(ALICE, name="mine")
            case "reset":
                await manager.reset(ALICE, "mine")
            case "finish":
                await cleanup.finish_resets()
            case "rotate":
                await manager.rotate(ALICE, "mine")
            case "share":
                await manager.share(ALICE, "mine", BOB, ShareAccess.USE)
            case "unshare":
                await manager.unshare(ALICE, "mine", BOB.user_id)
            case "destroy":
                await manager.destroy(ALICE, "mine")
            case "expire":
                await cleanup.cleanup_expired()
            case "keep":
                await cleanup.keep_credentials()
            case "orphans":
                await cleanup.cleanup_orphaned_resources()


if __name__ == "__main__":
    asyncio.run(_live(json.load(sys.stdin)))
    print("survived", flush=True)
