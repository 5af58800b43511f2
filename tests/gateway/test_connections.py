"""How the bot takes each way in which a connection can end: on a flood, reading the streams back."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from discord_sim import DiscordSim
from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.gateway import CompressionChoice, GatewayTuning
from sandbox_bot.gateway.compression import Compression
from tests.e2e.conftest import StartLive, discord_untouched, live, sim, start_bot, start_live, urls
from tests.e2e.harness import Flood, Live, eventually

__all__ = ["discord_untouched", "live", "sim", "start_bot", "start_live", "urls"]

_OFTEN, _SELDOM = 1_000, 41_250
"""Milliseconds between heartbeats: the former for what shows by them. The latter is Discord's; with it nobody
takes a machine that stands still for a second for a connection that is dead."""


async def metric(live: Live, name: str) -> float:
    """A metric without labels."""
    _, body = await live.get("/metrics")
    samples = {s.name: s.value for f in text_string_to_metric_families(body) for s in f.samples}
    return samples[name]


async def strike(sim: DiscordSim, how: str) -> None:
    """End the present connection in this way."""
    kind, _, number = how.partition(" ")
    if kind == "close":
        await sim.close(int(number))
    elif kind == "drop":
        await sim.drop()
    elif kind == "garble":
        await sim.garble()
    elif kind == "op7":
        await sim.reconnect()
    else:
        await sim.invalidate(number == "true")


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize(
    "how", ["close 4000", "close 4003", "close 4008", "drop", "garble", "op7", "op9 true"]
)
async def test_what_leaves_the_session_is_resumed(
    start_live: StartLive,
    sim: DiscordSim,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    compression: Compression,
) -> None:
    monkeypatch.setattr(CompressionChoice, "present", compression)
    live = await start_live()
    flood = Flood(sim, 700, rate=1_000)
    for times in (1, 2):
        await flood.reached(200 * times)
        await strike(sim, how)
        await eventually(lambda times=times: len(sim.resumes) == times and sim.sessions[0].connected)
    await flood.over()
    await live.checked()
    assert len(sim.identifies) == 1
    assert sim.rules.asked == [compression] * 3
    assert await metric(live, "sandbox_gateway_gaps_total") == 0


@pytest.mark.parametrize("how", ["close 4007", "close 4009", "op9 false"])
async def test_what_ends_the_session_begins_a_new_one_and_counts_the_gap(
    live: Live, sim: DiscordSim, how: str
) -> None:
    await sim.flood(300)
    await strike(sim, how)
    await eventually(lambda: sim.sessions[-1].connected and len(sim.sessions) == 2)
    await sim.flood(300)
    await live.checked()
    assert (len(sim.identifies), len(sim.resumes)) == (2, 0)
    assert not any(identify.too_soon for identify in sim.identifies)
    assert await metric(live, "sandbox_gateway_gaps_total") == 1


async def test_a_storm_of_op_7_is_weathered(live: Live, sim: DiscordSim) -> None:
    flood = Flood(sim, 1_500, rate=1_000)
    for times in range(1, 6):
        await strike(sim, "op7")
        await eventually(lambda times=times: len(sim.resumes) == times and sim.sessions[0].connected)
    await flood.over()
    await live.checked()
    assert len(sim.identifies) == 1


@pytest.mark.parametrize("fault", ["half_open", "freeze_acks"])
async def test_a_connection_that_answers_nothing_is_left_and_resumed(
    start_live: StartLive, sim: DiscordSim, fault: str
) -> None:
    sim.rules.heartbeat_interval_ms = _OFTEN
    live = await start_live()
    await sim.flood(300)
    sim.rules.heartbeat_interval_ms = _SELDOM
    getattr(sim, fault)(True, 0)
    await eventually(lambda: len(sim.resumes) == 1)
    await sim.flood(300)
    await live.checked()
    assert len(sim.identifies) == 1
    assert sim.sessions[0].alive


async def test_a_full_router_leaves_the_socket_unread_then_closes_it_and_resumes_later(
    start_live: StartLive, sim: DiscordSim, servers: EmbeddedServers
) -> None:
    sim.rules.heartbeat_interval_ms = _OFTEN
    live = await start_live(tuning=GatewayTuning(hold_within=6.0), router_max_pending=200)
    sim.rules.heartbeat_interval_ms = _SELDOM
    await sim.flood(100)
    await servers.nats.kill()
    (session,) = sim.sessions
    router = live.run.bot.sandbox_core.router
    flood = Flood(sim, 2_000, rate=2_000)
    await eventually(lambda: router.full)
    beats = session.heartbeats
    await eventually(lambda: session.heartbeats >= beats + 2)
    assert session.connected, "it is held back first"
    await eventually(lambda: not session.connected)
    assert session.last_client_close == 4000
    assert router.pending <= 201
    status, answer = await live.get("/readyz")
    assert status == 503
    assert "to be resumed when NATS takes events again" in answer
    assert len(sim.resumes) == 0
    await servers.nats.start()
    await eventually(lambda: session.connected)
    await flood.over()
    await live.checked()
    assert (len(sim.identifies), len(sim.resumes)) == (1, 1)


async def test_near_the_end_of_the_budget_a_session_that_did_not_stay_up_waits_and_says_why(
    live: Live, sim: DiscordSim
) -> None:
    sim.rules.session_starts_left = 40
    await strike(sim, "op9 false")

    async def told() -> bool:
        status, answer = await live.get("/readyz")
        return status == 503 and "40 of 1000 starts are left" in answer

    await eventually(told)
    assert len(sim.identifies) == 1
    assert sim.rules.session_starts_left == 40
