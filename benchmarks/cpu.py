"""Where the CPU time of one event goes."""

from __future__ import annotations

from .flooded import field
from .report import Section
from .sampler import STEPS

_MEANS = {
    "read": "read: WebSocket frames off the socket",
    "inflate": "inflate: zstd-stream",
    "decode": "decode: what routing needs of the JSON",
    "decide": "decide: route table, lanes, ledger",
    "publish": "publish: headers, the message's bytes, nats-py's write",
    "ack": "ack: answers read, bookkeeping, next in lane",
    "other": "other: event loop, metrics, everything else",
}


async def measure(section: Section) -> None:
    """Microseconds per event and step, sampled during a flood, and the busiest lines."""
    events = section.size(60_000, 6_000)
    async with field(guilds=500, mappings=250) as ground:
        done = await ground.flood("this bot", events, warm_up=events // 10, profile=True)
    per_event = done["cpu"] / events * 1e6
    profile = done["profile"]
    section.table(
        f"CPU time per event, from {profile['samples']:,} samples of {events:,} events",
        ("step", "us", "share"),
        [
            *(
                (_MEANS[step], f"{profile['steps'][step] * per_event:.1f}", f"{profile['steps'][step]:.0%}")
                for step in STEPS
            ),
            ("all", f"{per_event:.1f}", "100%"),
        ],
    )
    section.table(
        "The busiest lines",
        ("line", "us per event"),
        [(line, f"{share * per_event:.1f}") for line, share in profile["lines"][:12]],
    )
