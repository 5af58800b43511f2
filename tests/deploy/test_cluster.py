"""The deployed three-node cluster while nodes die: every event once, on its side, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nats.js.api import StorageType

from sandbox_core.nats.patience import Patience
from sandbox_core.subjects import EVENTS_STREAM
from tests.deploy.cluster import Cluster, running_cluster
from tests.e2e.conftest import StartLive
from tests.e2e.harness import Flood, Live, eventually, jetstream
from tests.streams import stream_of


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_cluster(tmp_path) as running:
        yield running


_CAUGHT_UP_WITHIN = 120.0
"""A node that comes back may take most of a minute before it is current: nats-server's own pace."""


async def replicated(cluster: Cluster, *streams: str) -> bool:
    """Whether the streams are complete on all three nodes, and consumers can be made to read them."""
    return await cluster.led() and all([await cluster.replicated(stream) for stream in streams])


async def test_nodes_die_while_events_flow(
    start_live: StartLive, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine that is busy with other tests an election may last longer than a sandbox's event waits.
    monkeypatch.setattr("sandbox_core.publishers.ELECTION", _CAUGHT_UP_WITHIN)
    monkeypatch.setitem(Patience.__init__.__kwdefaults__, "long", _CAUGHT_UP_WITHIN)
    live = await start_live(nats_url=cluster.url, nats_replicas=3)
    sandbox_id, _ = await live.mapped()
    streams = EVENTS_STREAM, stream_of(sandbox_id)
    async with jetstream(live.run.settings) as js:
        events, sandbox = [(await js.stream_info(stream)).config for stream in streams]
    assert (events.num_replicas, sandbox.num_replicas) == (3, 3)
    assert (events.storage, sandbox.storage) == (StorageType.FILE, StorageType.MEMORY)

    flood = Flood(live.sim, 1_500, rate=200)
    # One after the other: the leader of each stream, and the node the bot is connected to.
    for number, find in enumerate((*map(_leader, streams), _connected), start=1):
        await flood.reached(number * 250)
        victim = await find(live, cluster)
        await cluster.kill(victim)
        acknowledged = _routed(live)
        await eventually(lambda acknowledged=acknowledged: _routed(live) > acknowledged + 100)
        await cluster.start(victim)
        await eventually(lambda: replicated(cluster, *streams), within=_CAUGHT_UP_WITHIN)
    await flood.over()
    await live.checked()
    assert len(live.sim.identifies) == 1


async def test_without_a_majority_events_wait_and_none_is_lost(
    start_live: StartLive, cluster: Cluster
) -> None:
    live = await start_live(nats_url=cluster.url, nats_replicas=3)
    sandbox_id, _ = await live.mapped()
    streams = EVENTS_STREAM, stream_of(sandbox_id)
    await live.sim.flood(200)
    await eventually(lambda: live.run.bot.sandbox_core.router.pending == 0)
    await eventually(lambda: replicated(cluster, *streams), within=_CAUGHT_UP_WITHIN)
    await cluster.kill("nats-2")
    await cluster.kill("nats-3")
    await live.sim.flood(200)
    # What one node of three has taken is not stored: nobody may call it acknowledged.
    await eventually(lambda: live.run.bot.sandbox_core.router.pending > 0)
    await eventually(lambda: _not_ready(live))
    # Both come back: the memory stream is complete on the node that stayed.
    await cluster.start("nats-2")
    await cluster.start("nats-3")
    await eventually(lambda: live.run.bot.sandbox_core.router.pending == 0)
    # A stream that nothing was published to may still be without a leader to read it from.
    await eventually(lambda: replicated(cluster, *streams), within=_CAUGHT_UP_WITHIN)
    await live.checked()


def _leader(stream: str) -> Callable[[Live, Cluster], Awaitable[str]]:
    async def find(live: Live, cluster: Cluster) -> str:
        return await cluster.leader_of(stream)

    return find


async def _connected(live: Live, cluster: Cluster) -> str:
    url = live.run.bot.sandbox_core.nats.client.connected_url
    assert url is not None
    return cluster.name_of(urlsplit(url.geturl()).port or 0)


def _routed(live: Live) -> int:
    return sum(live.run.bot.sandbox_core.metrics.routing.routed.values())


async def _not_ready(live: Live) -> bool:
    return (await live.get("/readyz"))[0] == 503
