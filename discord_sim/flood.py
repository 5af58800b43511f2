"""Sends many realistic events, so fast that the receiver is the limit."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from discord_sim.errors import SimNotConnected
from discord_sim.frames import Payload, encode
from discord_sim.gateway import Gateway
from discord_sim.session import GatewaySession
from discord_sim.world import SimGuild, SimMessage, World

BATCH = 64
MIDDLE = b',"op":0,"d":{"id":"%d","nonce":"%d"'
WORDS = [
    "deploy",
    "rollback",
    "green",
    "build",
    "tests",
    "review",
    "merge",
    "branch",
    "release",
    "staging",
    "canary",
    "shard",
    "guild",
    "event",
    "stream",
    "queue",
    "latency",
    "index",
    "schema",
    "cache",
    "worker",
    "token",
    "session",
    "resume",
    "socket",
    "please",
    "thanks",
    "tomorrow",
    "yesterday",
    "maybe",
    "nobody",
    "everyone",
    "quick",
    "slow",
    "error",
    "fixed",
    "again",
    "why",
    "how",
    "done",
]


@dataclass
class FloodReport:
    """What a flood sent."""

    sent: int = 0
    """Events; each goes to every session of its shard."""
    frames: int = 0
    """Frames of all sessions."""
    seconds: float = 0.0
    """From the first event until the last is queued."""
    by_guild: Counter[int] = field(default_factory=Counter)
    """Events by guild id."""
    sequences: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and last sequence number by session id."""

    @property
    def per_second(self) -> float:
        """Events per second."""
        return self.sent / self.seconds if self.seconds else 0.0


def message_payload(world: World, guild: SimGuild, size: int, seed: int) -> Payload:
    """Return a MESSAGE_CREATE whose frame has about `size` bytes.

    It has no `id` and `nonce`: each event of a flood adds its own in the part of the frame that is not
    compressed in advance. The reference names another guild, as in a forwarded message.
    """
    chooser = random.Random(seed)
    message = SimMessage(0, guild.default_channel, guild.owner)
    others = [g for g in world.guilds if g != guild.id]
    body = message.event()
    body["timestamp"] = "2026-01-01T00:00:00.000000+00:00"
    body["message_reference"] = {
        "type": 1,
        "channel_id": str(guild.default_channel.id),
        "message_id": str(guild.default_channel.id + 1),
        "guild_id": str(chooser.choice(others) if others else guild.id),
    }
    del body["id"]
    missing = size - len(encode(body)) - 90
    words: list[str] = []
    while missing > 0:
        word = chooser.choice(WORDS) if chooser.random() < 0.8 else f"{chooser.getrandbits(24):x}"
        words.append(word)
        missing -= len(word) + 1
    body["content"] = " ".join(words)
    payload = Payload("MESSAGE_CREATE", guild.id, b"," + encode(body)[1:])
    payload.pack()
    return payload


class Flood:
    """One flood; see `DiscordSim.flood`."""

    def __init__(
        self,
        world: World,
        gateway: Gateway,
        *,
        guilds: Sequence[SimGuild],
        payload_bytes: int,
        hold: bool,
    ) -> None:
        self._world = world
        self._hub = gateway.hub
        self._gateway = gateway
        self._hold = hold
        self._payloads = [
            message_payload(world, guild, payload_bytes, seed) for seed, guild in enumerate(guilds)
        ]
        self._targets: list[list[GatewaySession]] = []
        self._version = -1

    async def run(self, count: int, rate: float | None) -> FloodReport:
        """Send `count` events, `rate` a second, or without a rate as fast as clients read."""
        report = FloodReport()
        self._refresh()
        if not any(self._targets):
            raise SimNotConnected("a flood needs at least one session")
        loop = asyncio.get_running_loop()
        start, start_ns = loop.time(), time.time_ns()
        while report.sent < count:
            number = min(BATCH, count - report.sent)
            if rate is not None:
                due = int((loop.time() - start) * rate) + 1 - report.sent
                if due <= 0:
                    await asyncio.sleep(start + report.sent / rate - loop.time())
                    continue
                number = min(number, due)
            step_ns = 0.0 if rate is None else 1e9 / rate
            self._send(report, number, start_ns, step_ns)
            await self._room()
        report.seconds = loop.time() - start
        for index, payload in enumerate(self._payloads):
            per = count // len(self._payloads) + (index < count % len(self._payloads))
            if per and payload.guild_id is not None:
                report.by_guild[payload.guild_id] += per
        return report

    def _refresh(self) -> None:
        if self._version != self._hub.version:
            self._version = self._hub.version
            self._targets = [self._hub.targets(p.guild_id) for p in self._payloads]

    def _send(self, report: FloodReport, number: int, start_ns: int, step_ns: float) -> None:
        self._refresh()
        payloads, targets, ids = self._payloads, self._targets, self._world.snowflakes
        record = self._hub.sent if self._hub.record else None
        for index in range(report.sent, report.sent + number):
            # The nonce is the time when the event was due. So a reader's latency includes a delay before
            # the send (no co-ordinated omission).
            stamp = start_ns + int(index * step_ns) if step_ns else time.time_ns()
            which = index % len(payloads)
            middle = MIDDLE % (ids.next(), stamp)
            for session in targets[which]:
                frame = session.send(payloads[which], middle)
                report.frames += 1
                first, _ = report.sequences.get(session.session_id, (frame.seq, 0))
                report.sequences[session.session_id] = (first, frame.seq)
                if record is not None:
                    record.append(frame)
        report.sent += number

    async def _room(self) -> None:
        """Wait until the sockets have room, and with `hold` also for disconnected clients."""
        await asyncio.sleep(0)
        for session in self._hub.living():
            if session.connection is not None:
                await session.connection.room()
        if self._hold:
            await self._wait_for_clients()

    async def _wait_for_clients(self) -> None:
        def attended() -> bool:
            # Do not wait for an old session whose client has identified again.
            self._hub.expire()
            living = self._hub.living()
            return {s.shard for s in living} == {s.shard for s in living if s.connected}

        if not attended():
            await self._gateway.changed.wait_for(attended, timeout=self._hub.session_ttl + 1)
