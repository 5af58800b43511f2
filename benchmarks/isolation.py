"""Logins of a sandbox's own: what they cost beside sandboxes without, and how fast they are cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import nats
from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.manager import Changed
from sandbox_core.models import Actor, GuildAccess, Sandbox
from sandbox_core.settings import load_settings
from sandbox_core.subjects import redis_prefix

from .report import Section, Spread, percentile
from .rig import Rig, rig, servers

OWNER = Actor("200000000000000001", "bench")
SLOTS = 220
_ROUNDS = 3
_GUILDS = 100
_BATCH = 500
_OPENS_WITHIN = 60.0
_STORES = ("PostgreSQL", "Redis", "NATS")


@dataclass(frozen=True)
class Side:
    """A bot's core without Discord, and its servers."""

    servers: EmbeddedServers
    core: Core


@asynccontextmanager
async def _side(*, isolated: bool) -> AsyncIterator[Side]:
    async with servers(slots=SLOTS if isolated else 0) as running:
        settings = load_settings(
            _env_file=None,
            database_url=running.database_url,
            redis_url=running.redis_url,
            nats_url=running.nats_url,
            sandbox_max_per_owner=10_000,
            log_level="ERROR",
            sandbox_isolation="enforced" if isolated else "convention",
            **(running.tenant_settings if isolated else {}),
        )
        async with open_core(settings, use_nats=NatsUse.EVENTS) as core:
            async with asyncio.timeout(_OPENS_WITHIN):
                # Nothing is told when the publishers begin.
                while not (core.publishers.production.takes and core.publishers.sandboxes.takes):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            yield Side(running, core)


async def measure(section: Section) -> None:
    """The promises: `/sandbox create` under 300 ms p95, every connection cut within 1 s."""
    section.note(f"Load of the machine as it began: {os.getloadavg()[0]:.1f}.")
    await _command(section)
    async with _side(isolated=True) as enforced, _side(isolated=False) as convention:
        await _steps(section, enforced, convention)
        await _cuts(section, enforced)
        await _event_path(section, enforced, convention)
    async with _side(isolated=True) as fresh:
        # A nats-server that has had many events keeps their memory for a while.
        await _many(section, fresh)
    section.note(f"Load as it ended: {os.getloadavg()[0]:.1f}.")


# Creating, rotating, destroying


async def _command(section: Section) -> None:
    rounds, each = section.size(_ROUNDS, 1), section.size(12, 3)
    taken: dict[bool, list[list[float]]] = {True: [], False: []}
    for _ in range(rounds):
        # One after the other: two bots of one process would answer at one Discord.
        for isolated in (True, False):
            async with rig(isolated=isolated) as running:
                taken[isolated].append([await _slash_create(running) for _ in range(each)])
    ours, theirs = _spread(taken[True], 0.5), _spread(taken[False], 0.5)
    section.table(
        f"/sandbox create, command to visible answer, milliseconds, {rounds} rounds of {each}",
        ("", "p50", "p95", "p50 with over without"),
        [
            ("with logins of its own", ours, _spread(taken[True], 0.95), f"{ours.over(theirs)} x"),
            ("without", theirs, _spread(taken[False], 0.95), ""),
        ],
    )


async def _slash_create(running: Rig) -> float:
    options = {"name": f"bench-{uuid.uuid4().hex[:12]}"}
    began = time.perf_counter()
    answer = await running.sim.post("slash", **running.sim.developer, path="sandbox create", options=options)
    if "running" not in answer["text"]:
        raise RuntimeError(f"create was refused: {answer['text']}")
    return (time.perf_counter() - began) * 1000


async def _steps(section: Section, enforced: Side, convention: Side) -> None:
    rounds, each = section.size(_ROUNDS, 1), section.size(12, 3)
    taken: dict[str, list[list[float]]] = defaultdict(list)
    for _ in range(rounds):
        now: dict[str, list[float]] = defaultdict(list)
        for _ in range(each):
            # By turns, so that what else the machine does strikes both.
            for side, with_logins in ((enforced, True), (convention, False)):
                await _one_life(side.core, now, with_logins=with_logins)
        for step, values in now.items():
            taken[step].append(values)
    rows: list[tuple[object, ...]] = []
    for step in ("create", "rotate", "destroy"):
        ours, theirs = taken[f"{step}, with logins"], taken.get(f"{step}, without")
        ratio = f"{_spread(ours, 0.5).over(_spread(theirs, 0.5))} x" if theirs else ""
        rows.append((f"{step}, with logins", _spread(ours, 0.5), _spread(ours, 0.95), ratio))
        if theirs:
            rows.append((f"{step}, without", _spread(theirs, 0.5), _spread(theirs, 0.95), ""))
    section.table(
        f"SandboxManager, milliseconds, {rounds} rounds of {each}",
        ("", "p50", "p95", "p50 with over without"),
        rows,
    )


async def _one_life(core: Core, taken: dict[str, list[float]], *, with_logins: bool) -> None:
    kind = "with logins" if with_logins else "without"

    async def timed(step: str, work: Awaitable[Changed]) -> Changed:
        began = time.perf_counter()
        done = await work
        taken[f"{step}, {kind}"].append((time.perf_counter() - began) * 1000)
        return done

    name = (await timed("create", core.manager.create(OWNER))).sandbox.name
    if with_logins:
        await timed("rotate", core.manager.rotate(OWNER, name))
    await timed("destroy", core.manager.destroy(OWNER, name))


def _spread(rounds: list[list[float]], share: float) -> Spread:
    return Spread(tuple(percentile(values, share) for values in rounds))


# How fast connections are cut


async def _cuts(section: Section, side: Side) -> None:
    manager = side.core.manager
    ends: dict[str, Callable[[Sandbox], Awaitable[object]]] = {
        "rotate": lambda sandbox: manager.rotate(OWNER, sandbox.name),
        "destroy": lambda sandbox: manager.destroy(OWNER, sandbox.name),
    }
    rows: list[tuple[object, ...]] = []
    for how, end in ends.items():
        taken: dict[str, list[float]] = {store: [] for store in _STORES}
        for _ in range(section.size(12, 3)):
            sandbox = (await manager.create(OWNER)).sandbox
            async with _connections(sandbox, manager.credentials(sandbox)) as cut:
                began = time.perf_counter()
                await end(sandbox)
                for store, ended in cut.items():
                    taken[store].append((await ended - began) * 1000)
            if how == "rotate":
                await manager.destroy(OWNER, sandbox.name)
        rows += [
            (f"{how}: {store}", Spread(tuple(values)), f"{percentile(values, 0.95):.2f}")
            for store, values in taken.items()
        ]
    section.table(
        "From the command until a worker's live connection is cut, milliseconds",
        ("", "median (min-max)", "p95"),
        rows,
    )


@asynccontextmanager
async def _connections(
    sandbox: Sandbox, variables: Mapping[str, str]
) -> AsyncIterator[dict[str, asyncio.Future[float]]]:
    """A connection to each store in the middle of something; each future is the moment of its cut."""
    loop = asyncio.get_running_loop()
    cut = {store: loop.create_future() for store in _STORES}

    def note(store: str) -> None:
        if not cut[store].done():
            cut[store].set_result(time.perf_counter())

    async def nats_cut() -> None:
        note("NATS")

    async def silent(_error: Exception) -> None:
        """The server says that the login has ended."""

    postgres = await asyncpg.connect(variables["DATABASE_URL"])
    postgres.add_termination_listener(lambda _: note("PostgreSQL"))
    client = await nats.connect(
        variables["NATS_URL"], allow_reconnect=False, disconnected_cb=nats_cut, error_cb=silent
    )
    async with Redis.from_url(variables["REDIS_URL"]) as redis:
        await redis.ping()

        async def wait() -> None:
            with contextlib.suppress(rd.ConnectionError, rd.AuthenticationError):
                await redis.blpop([f"{redis_prefix(sandbox.id)}q"], 50)
            note("Redis")

        async def sleep() -> None:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await postgres.fetchval("SELECT pg_sleep(50)")
            note("PostgreSQL")

        waiting = [asyncio.create_task(wait()), asyncio.create_task(sleep())]
        try:
            yield cut
        finally:
            await asyncio.gather(*waiting)
            postgres.terminate()
            await client.close()


# What events cost


async def registered(core: Core, guild_ids: Sequence[str]) -> list[Sandbox]:
    """Sandboxes with these guilds, ten each."""
    made = []
    for start in range(0, len(guild_ids), 10):
        access = [
            GuildAccess(each, bot_is_member=True, caller_manages=True)
            for each in guild_ids[start : start + 10]
        ]
        made.append((await core.manager.create(OWNER, guilds=access)).sandbox)
    return made


async def _event_path(section: Section, enforced: Side, convention: Side) -> None:
    events, rounds = section.size(10_000, 1_000), section.size(12, 2)
    guild_ids = [str(10**17 + number) for number in range(_GUILDS)]
    taken: dict[bool, list[float]] = {True: [], False: []}
    sources = {}
    for isolated, side in ((True, enforced), (False, convention)):
        await registered(side.core, guild_ids[: _GUILDS // 2])
        sources[isolated] = _Source(side.core, guild_ids)
        await sources[isolated].flood(events)
    for number in range(rounds):
        for isolated in (True, False) if number % 2 else (False, True):
            taken[isolated].append(await sources[isolated].flood(events))
    ours, theirs = Spread(tuple(taken[True]), 1), Spread(tuple(taken[False]), 1)
    section.table(
        f"CPU time of an event, frame to ack, {rounds} rounds of {events:,}, half of them sandboxes'",
        ("", "CPU us/event"),
        [
            ("each sandbox has an account and a stream", ours),
            ("sandboxes share a stream", theirs),
            ("the first over the second", f"{ours.over(theirs)} x"),
        ],
    )


class _Source:
    """Frames of one shard, without a gateway."""

    def __init__(self, core: Core, guild_ids: Sequence[str]) -> None:
        self._core = core
        self._guild_ids = guild_ids
        self._seq = 0
        core.intake.adopt(uuid.uuid4().hex, 0, 0)

    async def flood(self, events: int) -> float:
        """Microseconds of CPU time for each of so many events."""
        raws = [self._raw(number) for number in range(events)]
        before = time.process_time()
        for start in range(0, events, _BATCH):
            for raw in raws[start : start + _BATCH]:
                frame = self._core.intake.read(raw)
                if frame is None:
                    raise RuntimeError("a frame was not read")
                self._core.intake.take(frame, 0)
            await self._core.router.idle()
        return (time.process_time() - before) / events * 1e6

    def _raw(self, number: int) -> bytes:
        self._seq += 1
        data = {"guild_id": self._guild_ids[number % len(self._guild_ids)], "content": "x" * 1200}
        return json.dumps({"t": "MESSAGE_CREATE", "s": self._seq, "op": 0, "d": data}).encode()


# Many sandboxes


async def _many(section: Section, side: Side) -> None:
    count = section.size(200, 10)
    core = side.core
    before = _memory(side.servers)
    began = time.perf_counter()
    for _ in range(count):
        await core.manager.create(OWNER)
    seconds = time.perf_counter() - began
    after = _memory(side.servers)
    section.table(
        f"Memory of the sandboxes' servers, MB, with {SLOTS} accounts on NATS",
        ("", "no sandbox", f"{count} sandboxes"),
        [(name, f"{before[name]:.1f}", f"{after[name]:.1f}") for name in before],
    )
    section.note(f"{count} sandboxes were made one after the other in {seconds:.1f} s.")


def _memory(running: EmbeddedServers) -> dict[str, float]:
    """Megabytes; what processes share counts once."""
    return {
        "PostgreSQL, which also has the bot's own database": sum(map(_mb, _family(running.postgres.pid))),
        "Valkey": _mb(running.tenant_valkey.pid),
        "nats-server": _mb(running.tenant_nats.pid),
    }


def _mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))
