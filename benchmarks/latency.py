"""How long an event takes from the gateway to its acknowledgement, at steady rates.

Measured twice: from the moment the frame was read, and from the moment the simulator was due to send it.
The second has no co-ordinated omission: an event that had to queue before it was read counts its wait.
The reference is `nats-py` publishing the same bytes at the same rate and awaiting each acknowledgement.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import nats

from sandbox_core.nats.publication import Publication

from .report import Section, Spread, percentile
from .rig import Rig, rig

_RATES = (1000, 2000, 5000)
_ROUNDS = 3
_GUILDS = 100
_SHARES = (0.5, 0.99, 0.999)


async def measure(section: Section) -> None:
    """p50, p99 and p99.9 in milliseconds; the promise is p99 below 5 ms."""
    seconds = section.size(5, 1)
    async with rig(guilds=_GUILDS) as running:
        await _map_half(running)
        rows: list[tuple[object, ...]] = []
        for rate in _RATES:
            ours: list[list[float]] = []
            due: list[list[float]] = []
            reference: list[list[float]] = []
            for _ in range(_ROUNDS):
                read, sent = await through_the_bot(running, rate, seconds)
                ours.append(read)
                due.append(sent)
                reference.append(await _bare_publish(running, rate, seconds))
            rows += [
                (f"{rate:,}/s, frame read to acknowledged", *_percentiles(ours), _ratio(ours, reference)),
                (f"{rate:,}/s, due at Discord to acknowledged", *_percentiles(due), _ratio(due, reference)),
                (f"{rate:,}/s, reference: js.publish", *_percentiles(reference), ""),
            ]
    section.table(
        f"Event latency, milliseconds: median (min-max) of {_ROUNDS} rounds of {seconds} s",
        ("", "p50", "p99", "p99.9", "p50 over the reference"),
        rows,
    )


def _percentiles(rounds: list[list[float]]) -> tuple[Spread, ...]:
    return tuple(Spread(tuple(percentile(values, share) for values in rounds)) for share in _SHARES)


def _ratio(rounds: list[list[float]], reference: list[list[float]]) -> Spread:
    return _percentiles(rounds)[0].over(_percentiles(reference)[0])


async def _map_half(running: Rig) -> None:
    sim = running.sim
    for number, guild in enumerate(sim.info["guilds"][: _GUILDS // 2]):
        options: dict[str, Any] = {"name": f"latency-{number}", "guild": str(guild["id"])}
        await sim.post(
            "slash",
            **sim.developer,
            path="sandbox create",
            options=options,
        )


async def through_the_bot(running: Rig, rate: int, seconds: int) -> tuple[list[float], list[float]]:
    router = running.bot.sandbox_core.router
    acknowledged = router.acknowledged
    read: list[float] = []
    due: list[float] = []

    def record(publications: Sequence[Publication]) -> None:
        for publication in publications:
            frame = publication.context.frame
            # The simulator writes the moment each event is due into its nonce, in nanoseconds.
            nonce = json.loads(frame.raw)["d"].get("nonce")
            if nonce is not None:
                read.append((time.monotonic() - frame.received_at) * 1000)
                due.append((time.time_ns() - int(nonce)) / 1e6)
        acknowledged(publications)

    router.acknowledged = record  # type: ignore[method-assign]
    try:
        await running.sim.post("flood", count=rate * seconds, rate=rate)
        await router.idle()
    finally:
        router.acknowledged = acknowledged  # type: ignore[method-assign]
    if len(read) != rate * seconds:
        raise RuntimeError(f"{rate * seconds} events were sent and {len(read)} acknowledged")
    return read, due


async def _bare_publish(running: Rig, rate: int, seconds: int) -> list[float]:
    client = await nats.connect(running.servers.nats_url)
    js = client.jetstream()
    payload = b"x" * 1300
    taken: list[float] = []

    async def publish(due: float) -> None:
        await js.publish("events.REFERENCE", payload, timeout=30)
        taken.append((time.perf_counter() - due) * 1000)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(rate * seconds):
            due = started + number / rate
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(publish(due))
    await client.close()
    return taken
