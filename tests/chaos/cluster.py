"""Three nats-servers that form one JetStream cluster."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors

from sandbox_bot.embedded import NatsServer

from .bots import ChaosError

_SIZE = 3
_FORMED_WITHIN = 30.0


class ClusterNode(NatsServer):
    """One node; its clients learn of no other nodes, so that they stay behind their taps."""

    def __init__(self, data_dir: Path, log: Path, route_port: int, route_ports: list[int]) -> None:
        super().__init__(data_dir, log)
        self._route_port = route_port
        self._route_ports = route_ports

    def _plan(self):  # type: ignore[no-untyped-def]
        plan = super()._plan()
        file = self._data_dir / "nats.conf"
        configuration = json.loads(file.read_text())
        configuration["cluster"] = {
            "name": "chaos",
            "host": "127.0.0.1",
            "port": self._route_port,
            "routes": [f"nats://127.0.0.1:{port}" for port in self._route_ports],
            "no_advertise": True,
        }
        file.write_text(json.dumps(configuration, indent=2))
        return plan


@asynccontextmanager
async def nats_cluster(directory: Path) -> AsyncIterator[list[ClusterNode]]:
    """Three nodes that have elected their leader."""
    ports = _free_ports(_SIZE)
    nodes = [
        ClusterNode(directory / f"node-{number}", directory / f"node-{number}.log", ports[number], ports)
        for number in range(_SIZE)
    ]
    try:
        # A node announces JetStream before it has a leader, so each comes up alone.
        for node in nodes:
            await node.start()
        await _formed(nodes[0].url)
        yield nodes
    finally:
        await asyncio.gather(*(node.kill() for node in nodes))


async def _formed(url: str) -> None:
    client = await nats.connect(url)
    try:
        async with asyncio.timeout(_FORMED_WITHIN):
            while True:
                try:
                    await client.jetstream(timeout=1).account_info()
                except (nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.1)
                else:
                    return
    except TimeoutError:
        raise ChaosError("the NATS cluster elected no leader") from None
    finally:
        await client.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
