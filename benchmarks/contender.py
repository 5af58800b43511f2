"""One receiver of the flood, as a process of its own: `python -m benchmarks.contender KIND TASK`.

It says in lines of JSON on standard output when it is `ready`, when it has handled the events to warm up
with, and at the end what the measured ones took.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from sandbox_bot._loading import loading
from sandbox_bot.cli import run_on_fast_loop

# As the bot loads its own.
with loading():
    from . import references, this_bot
    from .sampler import Sampler
    from .task import Contender, Counter, Task

_POLL = 0.001


def say(**message: Any) -> None:
    """One line for the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def _reaches(count: Counter, wanted: int) -> None:
    while count() < wanted:  # noqa: ASYNC110 - nothing is told when a count changes
        await asyncio.sleep(_POLL)


async def _measure(count: Counter, task: Task) -> dict[str, Any]:
    await _reaches(count, task.warm_up)
    say(warm=True)
    await _reaches(count, task.warm_up + 1)
    sampler = Sampler() if task.profile else None
    began, cpu = time.perf_counter(), time.process_time()
    if sampler is not None:
        sampler.start()
    await _reaches(count, task.warm_up + task.events)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu": cpu,
        "rss": _resident_bytes(),
        "profile": sampler.stop() if sampler is not None else None,
        "began": time.time() - seconds,
        "ended": time.time(),
    }


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        # Not Linux: the peak, in bytes on macOS.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _run(contender: Contender, task: Task) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with contender(task) as count:
        say(ready=True, rss=_resident_bytes())
        measuring = asyncio.create_task(_measure(count, task))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({measuring, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if measuring.done():
            say(done=measuring.result())
            await stopping
        measuring.cancel()
        stopping.cancel()
        await asyncio.gather(measuring, stopping, return_exceptions=True)


CONTENDERS: dict[str, Contender] = {
    "this bot": this_bot.this_bot,
    "bare discord.py": references.bare_discord_py,
    "obvious listener": references.obvious_listener,
    "two hops": references.two_hops,
    "concurrent hops": references.concurrent_hops,
    "nats-py ceiling": references.publish_ceiling,
    "inflating only": references.inflating_only,
    "reading only": references.reading_only,
}


def main() -> None:
    """Be one of them."""
    task = msgspec.json.decode(sys.argv[2], type=Task)
    run_on_fast_loop(_run(CONTENDERS[sys.argv[1]], task))


if __name__ == "__main__":
    main()
