"""Servers that hang."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sandbox_bot.embedded import EmbeddedServer
from tests.embedded.processes import descendants, stopped, until


@asynccontextmanager
async def frozen(*servers: EmbeddedServer) -> AsyncIterator[None]:
    """The servers' processes hang: their ports take connections and nothing answers."""
    # Once it hangs itself, a server starts no more processes; those that it has may end meanwhile.
    processes = [server.pid for server in servers]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        await until(lambda: all(map(stopped, processes)))
        processes += [pid for server in servers for pid in descendants(server.pid)]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        # The signal takes a moment on a busy machine.
        await until(lambda: all(map(stopped, processes)))
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
