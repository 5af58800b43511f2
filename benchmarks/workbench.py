"""What the event path pays while people look: ten followers of a sandbox, and a recording of it.

The followers are `sandboxctl events NAME --follow --json`, processes at a low priority, as they would run on
other machines; the recording is the bot's own. Believed only when each has every event.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

from sandbox_core.models import Sandbox
from sandbox_core.postgres.recordings import RecordingStatus

from .isolation import OWNER, registered
from .latency import through_the_bot
from .report import Section, Spread, percentile
from .rig import Rig, rig

_RATE = 1000
_ROUNDS = 3
_FOLLOWERS = 10
_ENDS_WITHIN = 300.0
_POLL = 0.05
_NOBODY = "nobody looks"

_numbers = count(1)


async def measure(section: Section) -> None:
    """Latency and events/s beside followers and a recording, as ratios to those of the same round without."""
    seconds, rounds = section.size(5, 1), section.size(_ROUNDS, 1)
    events = section.size(10_000, 2_000)
    async with rig(guilds=100) as running:
        core = running.bot.sandbox_core
        ids = [str(guild["id"]) for guild in running.sim.info["guilds"][1:11]]
        (sandbox,) = await registered(core, ids)
        kinds: dict[str, Callable[[], AbstractAsyncContextManager[object]]] = {
            _NOBODY: AsyncExitStack,
            f"{_FOLLOWERS} followers": lambda: _followers(running, sandbox),
            "a recording": lambda: _recording(running, sandbox),
            f"{_FOLLOWERS} followers and a recording": lambda: _both(running, sandbox),
        }
        p50: dict[str, list[float]] = {kind: [] for kind in kinds}
        p99: dict[str, list[float]] = {kind: [] for kind in kinds}
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(rounds):
            for kind in kinds if number % 2 else reversed(kinds):
                async with kinds[kind]():
                    taken, _ = await through_the_bot(running, _RATE, seconds)
                    p50[kind].append(percentile(taken, 0.5))
                    p99[kind].append(percentile(taken, 0.99))
                    rates[kind].append(await _flooded(running, events))
        await core.manager.destroy(OWNER, sandbox.name)
    section.table(
        f"The event path while a sandbox with a tenth of the events is looked at, {rounds} rounds: frame "
        f"read to acknowledged at {_RATE:,}/s for {seconds} s, then {events:,} events as fast as they come",
        ("", "p50 ms", "p99 ms", "events/s", "p99 over nobody", "events/s over nobody"),
        [
            (
                kind,
                Spread(tuple(p50[kind])),
                Spread(tuple(p99[kind])),
                Spread(tuple(rates[kind]), 0),
                f"{Spread(tuple(p99[kind])).over(Spread(tuple(p99[_NOBODY])))} x",
                f"{Spread(tuple(rates[kind])).over(Spread(tuple(rates[_NOBODY])))} x",
            )
            for kind in kinds
        ],
    )
    section.note(
        "After each round every follower had shown, and the recording had, each of the sandbox's events."
    )


async def _flooded(running: Rig, events: int) -> float:
    """Events per second, from the first one that is sent to the last acknowledgement."""
    started = time.perf_counter()
    await running.sim.post("flood", count=events)
    await running.bot.sandbox_core.router.idle()
    return events / (time.perf_counter() - started)


@asynccontextmanager
async def _both(running: Rig, sandbox: Sandbox) -> AsyncIterator[None]:
    async with _followers(running, sandbox), _recording(running, sandbox):
        yield


@asynccontextmanager
async def _followers(running: Rig, sandbox: Sandbox) -> AsyncIterator[None]:
    place = await running.bot.sandbox_core.places.of(sandbox.id, credentials=sandbox.generation)
    environment = {
        **os.environ,
        "DATABASE_URL": running.servers.database_url,
        "REDIS_URL": running.servers.redis_url,
        "NATS_URL": running.servers.nats_url,
        "SANDBOX_ISOLATION": "convention",
    }

    async def consumers() -> int:
        info = await place.js.stream_info(place.stream)
        return info.state.consumer_count or 0

    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as directory:
        files = [Path(directory, str(number)) for number in range(_FOLLOWERS)]
        before, first = await consumers(), await place.state()
        words = ("-m", "sandbox_bot", "events", sandbox.name, "--follow", "--json", "--limit", "0")
        processes = []
        for file in files:
            with file.open("wb") as out:
                processes.append(
                    await asyncio.create_subprocess_exec(
                        *("nice", "-n", "10", sys.executable, *words), env=environment, stdout=out
                    )
                )
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                while await consumers() < before + _FOLLOWERS:  # noqa: ASYNC110 - nothing tells of a consumer
                    await asyncio.sleep(_POLL)
            yield
            wanted = (await place.state()).last - first.last
            async with asyncio.timeout(_ENDS_WITHIN):
                while min(map(_lines, files)) < wanted:  # noqa: ASYNC110 - nor of a file that grows
                    await asyncio.sleep(_POLL)
            if max(map(_lines, files)) > wanted:
                raise RuntimeError(f"{wanted} events came, and a follower has shown more")
        finally:
            for process in processes:
                process.kill()
                await process.wait()


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


@asynccontextmanager
async def _recording(running: Rig, sandbox: Sandbox) -> AsyncIterator[None]:
    core = running.bot.sandbox_core
    library, name = core.recordings.library, f"bench-{next(_numbers)}"
    place = await core.places.of(sandbox.id, credentials=sandbox.generation)
    await library.start(OWNER, sandbox.name, name)
    before = (await place.state()).last
    async with asyncio.timeout(_ENDS_WITHIN):
        while not (await library.get(OWNER, name)).claimed:  # noqa: ASYNC110 - the bot looks now and then
            await asyncio.sleep(_POLL)
    yield
    wanted = (await place.state()).last - before
    await library.stop(OWNER, sandbox.name, name)
    async with asyncio.timeout(_ENDS_WITHIN):
        ended = await library.get(OWNER, name)
        while ended.status is not RecordingStatus.ENDED:
            await asyncio.sleep(_POLL)
            ended = await library.get(OWNER, name)
    if (ended.events, ended.missed, ended.gaps) != (wanted, 0, 0):
        raise RuntimeError(f"{wanted} events came, and the recording has {ended}")
    await library.delete(ended)
