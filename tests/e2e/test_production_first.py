"""The sandboxes' stream is full under a running bot: what an operator and a sandbox's owner see."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import nats
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy

from sandbox_bot.cli import _json, _views
from sandbox_bot.cli._screen import plain
from sandbox_core.dependencies import SANDBOX_NATS
from sandbox_core.limits_text import Limits
from sandbox_core.manager import utc_now
from tests.doctor.servers import nats_server
from tests.e2e.conftest import StartLive
from tests.e2e.harness import Live, eventually, jetstream
from tests.streams import EVERY_SANDBOX, count_of, names_of, stream_of

_BUDGET = 20


async def _limit(js: JetStreamContext, *, full: bool) -> None:
    for name in await names_of(js, EVERY_SANDBOX):
        info = await js.stream_info(name)
        info.config.max_bytes = info.state.bytes + 1 if full else -1
        info.config.discard = DiscardPolicy.NEW if full else DiscardPolicy.OLD
        await js.update_stream(info.config)


async def _says(live: Live, status: str, word: str) -> bool:
    code, body = await live.get("/readyz")
    answer = json.loads(body)
    return (code, answer["status"]) == (200, status) and word in answer.get("degraded", {}).get(
        "Sandboxes", ""
    )


async def test_a_full_sandbox_stream_degrades_and_its_owner_is_told_what_was_lost(
    start_live: StartLive,
) -> None:
    live = await start_live(sandbox_max_pending=_BUDGET, router_max_pending=100)
    sandbox_id, guild = await live.mapped()
    core, stream = live.run.bot.sandbox_core, stream_of(sandbox_id)
    async with jetstream(live.run.bot.sandbox_core.settings) as js:
        await _limit(js, full=True)
        for _ in range(100):
            live.sim.message(guild)
        await live.sim.flood(500)
        await eventually(lambda: core.router.backlog.count == 0 and live.sim.sent[-1].seq == _received(live))
        assert core.router.pending <= _BUDGET
        await eventually(
            lambda: _says(live, "degraded", f"the stream {stream} takes no events: maximum bytes")
        )
        code, body = await live.get("/readyz")
        assert (code, "127.0.0.1:" in json.loads(body)["degraded"]["Sandboxes"]) == (200, True)
        await _limit(js, full=False)
    await eventually(lambda: core.router.pending == 0)
    dropped = sum(core.metrics.routing.sandbox_dropped.values())
    assert dropped > 50
    # Event by event: production has all of its own, and the sandbox all but those that were counted.
    stored = {event.message_id for event in await live.stored(wait=False)}
    frames = {f"{f.session_id}:0:{f.seq}": f for f in live.sim.sent if f.type == "MESSAGE_CREATE"}
    missing = [frame for identity, frame in frames.items() if identity not in stored]
    assert {frame.guild_id for frame in missing} == {guild.id}
    assert len(missing) == dropped

    async def told() -> bool:
        return (await core.manager.get(sandbox_id)).events_dropped == dropped

    await eventually(told)
    answer = await live.slash("status", name="box")
    assert f"{dropped} events dropped, since <t:" in answer.text
    limits = Limits.of(core.settings)
    health, now = await core.manager.health("box"), utc_now()
    assert re.search(rf"{dropped} events dropped, since \d{{4}}-", plain(*_views.health(health, limits, now)))
    shape = _json.status(health, limits, now)["sandbox"]
    assert (shape["events_dropped"], bool(shape["events_dropped_since"])) == (dropped, True)


async def test_a_sandboxes_server_that_is_away_delays_nothing_of_production(
    start_live: StartLive, tmp_path: Path
) -> None:
    async with nats_server(tmp_path) as tenant:
        await tenant.kill()
        live = await start_live(sandbox_nats_url=tenant.url)
        core = live.run.bot.sandbox_core
        code, body = await live.get("/readyz")
        degraded = json.loads(body)["degraded"]
        assert (code, list(degraded)) == (200, [SANDBOX_NATS])
        assert str(tenant.port) in degraded[SANDBOX_NATS]
        await live.sim.flood(500)
        await eventually(lambda: core.router.pending == 0 and live.sim.sent[-1].seq == _received(live))
        assert core.metrics.routing.routed["production"] >= 500
        await tenant.start()
        await eventually(lambda: _ready(live))
        _, guild = await live.mapped()
        before = core.metrics.routing.routed["sandbox"]
        for _ in range(20):
            live.sim.message(guild)
        await eventually(lambda: core.metrics.routing.routed["sandbox"] >= before + 20)
        client = await nats.connect(tenant.url)
        stored = await count_of(client.jetstream(), EVERY_SANDBOX)
        await client.close()
        assert stored == core.metrics.routing.routed["sandbox"]
        assert [info.config.name for info in await core.js.streams_info()] == ["EVENTS"]
        os.kill(tenant.pid, signal.SIGSTOP)
        try:
            await live.sim.flood(500)
            await eventually(
                lambda: core.router.backlog.count == 0 and live.sim.sent[-1].seq == _received(live)
            )
            # The route back does not wait for the server either.
            assert (await live.slash("unregister-guild", guild=str(guild.id), name="box")).text
            live.sim.message(guild)
            await eventually(lambda: core.router.backlog.count == 0)
        finally:
            os.kill(tenant.pid, signal.SIGCONT)


async def _ready(live: Live) -> bool:
    code, body = await live.get("/readyz")
    return (code, json.loads(body).get("degraded", {})) == (200, {})


def _received(live: Live) -> int:
    ledger = live.run.bot.sandbox_core.intake.ledger(0)
    return 0 if ledger is None else ledger.received
