"""Servers, a flooding simulator and one contender at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import nats
from nats.js import JetStreamContext
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.nats.sandbox_streams import SandboxStreams
from sandbox_core.nats.streams import StreamLimits, Streams

from .rig import SimProcess, servers, sim_process
from .task import Task

_READY_WITHIN = 120.0
_DONE_WITHIN = 300.0
_ENDS_WITHIN = 20.0
_LOOKS = ("-m", "benchmarks.contender")
# A thousand looks a second are time of the process that is measured, whichever version it is.
_ONLY_UP = ("-c", "from benchmarks import contender; contender._POLL = 1e9; contender.main()")
ROOT = Path(__file__).resolve().parents[1]
_SUBJECTS = {"EVENTS": "events.MESSAGE_CREATE", "SANDBOX": "sandbox.*.events.MESSAGE_CREATE"}
# A flood is not to push anything out of a stream before it is counted.
_LIMITS = StreamLimits(sandbox_bytes=2 << 30)


@dataclass(frozen=True)
class Code:
    """A version of the project that contenders are started from."""

    root: Path
    python: str
    import_from: tuple[Path, ...]


class ContenderError(Exception):
    """A contender did not do what was measured, so there is no figure."""


@dataclass
class Process:
    """A running contender."""

    process: asyncio.subprocess.Process
    kind: str

    async def says(self, word: str, within: float) -> dict[str, Any]:
        """The next message with this word. Raises `ContenderError` when the process ends or stays silent."""
        stream = self.process.stdout
        assert stream is not None
        try:
            async with asyncio.timeout(within):
                while line := await stream.readline():
                    message: dict[str, Any] = json.loads(line)
                    if word in message:
                        return message
        except TimeoutError:
            raise ContenderError(f"{self.kind} was not {word} within {within:g} s") from None
        raise ContenderError(f"{self.kind} ended before it was {word}")

    async def end(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@dataclass
class Field:
    """Where contenders are measured."""

    servers: EmbeddedServers
    sim: SimProcess
    task: Task
    js: JetStreamContext

    @asynccontextmanager
    async def contender(
        self,
        kind: str,
        task: Task,
        environment: Mapping[str, str] | None = None,
        code: Code | None = None,
        *,
        looks: bool = True,
    ) -> AsyncIterator[Process]:
        """Start one and wait until it is ready; without `looks`, it does not look at its own count."""
        path = {} if code is None else {"PYTHONPATH": os.pathsep.join(map(str, code.import_from))}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable if code is None else code.python, *(_LOOKS if looks else _ONLY_UP)),
            *(kind, task.to_json()),
            cwd=ROOT if code is None else code.root,
            env={**os.environ, **path, **(environment or {})},
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        running = Process(process, kind)
        try:
            await running.says("ready", _READY_WITHIN)
            yield running
        finally:
            await running.end()

    async def clean(self, code: Code | None = None) -> None:
        """Empty streams, and no session that a next process would go on with."""
        streams = SandboxStreams(self.js, _LIMITS)
        await Streams(self.js, _LIMITS).ensure()
        await self.js.purge_stream("EVENTS")
        for stream in await self._of_sandboxes():
            await self.js.delete_stream(stream)
        # Sandboxes shared one stream in earlier versions, which make that themselves.
        if code is None or (code.root / "sandbox_core/nats/sandbox_streams.py").exists():
            for sandbox_id in set(self.task.mapped.values()):
                await streams.make(sandbox_id)
        async with Redis.from_url(self.servers.redis_url) as redis:
            await redis.flushdb()
        connection = await asyncpg.connect(self.servers.database_url)
        try:
            await connection.execute("TRUNCATE gateway_resume_points")
            # So many new sessions in a row would be taken for a crash loop, and made to wait.
            await connection.execute("UPDATE gateway_shards SET identifies = 0")
        finally:
            await connection.close()

    async def stored(self) -> dict[str, int]:
        """MESSAGE_CREATEs of each side, counted by the server."""
        counts = {"EVENTS": 0, "SANDBOX": 0}
        for stream in ("EVENTS", *await self._of_sandboxes()):
            side = "EVENTS" if stream == "EVENTS" else "SANDBOX"
            info = await self.js.stream_info(stream, subjects_filter=_SUBJECTS[side])
            counts[side] += sum((info.state.subjects or {}).values())
        return counts

    async def _of_sandboxes(self) -> list[str]:
        """Also the one that they shared in versions to compare with."""
        names = [str(info.config.name) for info in await self.js.streams_info()]
        return [name for name in names if name.startswith("SANDBOX")]

    async def flood(
        self, kind: str, events: int, warm_up: int, *, profile: bool = False, code: Code | None = None
    ) -> dict[str, Any]:
        """One measured flood through a fresh contender; what it said when it was done.

        Raises `ContenderError` when the streams don't hold exactly what was sent.
        """
        await self.clean(code)
        task = replace(self.task, events=events, warm_up=warm_up, profile=profile)
        async with self.contender(kind, task, code=code) as process:
            floods = []
            if kind != "nats-py ceiling":
                floods.append(await self.sim.post("flood", count=warm_up))
            await process.says("warm", _READY_WITHIN)
            if kind != "nats-py ceiling":
                floods.append(await self.sim.post("flood", count=events))
            done: dict[str, Any] = (await process.says("done", _DONE_WITHIN))["done"]
        done["flood_per_second"] = floods[-1]["per_second"] if floods else 0.0
        stored = await self.stored()
        done["stored"] = stored
        if kind in {"this bot", "obvious listener", "two hops", "concurrent hops", "nats-py ceiling"}:
            total = sum(stored.values())
            if total != events + warm_up:
                raise ContenderError(f"{kind}: {events + warm_up} were sent, {total} are stored: {stored}")
        return done


@asynccontextmanager
async def field(*, guilds: int, mappings: int, shards: int = 1) -> AsyncIterator[Field]:
    """Servers and simulator, half of the simulator's guilds mapped, and others up to `mappings`."""
    async with servers() as running, sim_process(guilds=guilds, session_ttl=1.0, shards=shards) as sim:
        ids = [guild["id"] for guild in sim.info["guilds"]]
        mapped = await map_guilds(running, ids[: min(guilds // 2, mappings)], mappings)
        client = await nats.connect(running.nats_url)
        task = Task(
            api_url=sim.info["api_url"],
            gateway_url=sim.info["gateway_url"],
            token=sim.token,
            dev_guild=ids[0],
            database_url=running.database_url,
            redis_url=running.redis_url,
            nats_url=running.nats_url,
            warm_up=0,
            events=0,
            mapped=mapped,
        )
        try:
            yield Field(running, sim, task, client.jetstream(timeout=30))
        finally:
            await client.close()


_PER_SANDBOX = 250


async def map_guilds(running: EmbeddedServers, guild_ids: list[str], total: int) -> dict[str, str]:
    """Write running sandboxes and mappings as the manager would leave them; the named guilds' sandboxes.

    Made-up guild ids fill up to `total`.
    """
    guilds = [*guild_ids, *(str(10**17 + number) for number in range(total - len(guild_ids)))]
    mapped: dict[str, str] = {}
    connection = await asyncpg.connect(running.database_url)
    try:
        for start in range(0, len(guilds), _PER_SANDBOX):
            sandbox_id, some = uuid.uuid4(), guilds[start : start + _PER_SANDBOX]
            short = sandbox_id.hex[:8]
            async with connection.transaction():
                await connection.execute("SELECT create_sandbox_schema($1)", short)
                await connection.execute(
                    "INSERT INTO sandboxes (id, name, owner, status, schema_name, expires_at)"
                    " VALUES ($1, $2, 'bench', 'running', $3, now() + interval '100 hours')",
                    *(sandbox_id, f"bench-{short}", f"sandbox_{short}"),
                )
                await connection.execute(
                    "INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by)"
                    " SELECT unnest($1::text[]), $2, 'bench'",
                    *(some, sandbox_id),
                )
            mapped.update(dict.fromkeys(some, str(sandbox_id)))
    finally:
        await connection.close()
    return {guild: mapped[guild] for guild in guild_ids}
