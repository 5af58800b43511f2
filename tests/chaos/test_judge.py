"""The judge finds every kind of fault, and calls nothing a fault that is none."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from discord_sim import DiscordSim, Frame, SimGuild

from .judge import Judge, Verdict, identity
from .latency import Beside, Latency
from .reader import Stored
from .sides import PRODUCTION, Sides, side_of
from .tap import Ack

SANDBOX = "3f2a9c01-0000-4000-8000-000000000000"


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """A simulator with one session, which nobody listens to."""
    async with DiscordSim(record=True) as running:
        running.hub.open(shard=0, shard_count=1, intents=513, identify={})
        yield running


def stored(frame: Frame, side: str = PRODUCTION, *, number: int = 1, at: float = 0.0) -> Stored:
    headers = {
        "Nats-Msg-Id": identity(frame),
        "Discord-Event": frame.type,
        "Discord-Shard": "0",
        "Discord-Guild-Id": str(frame.guild_id),
    }
    subject, stream = f"events.{frame.type}", "EVENTS"
    if side != PRODUCTION:
        headers["Sandbox-Id"] = side
        subject, stream = f"sandbox.{side}.events.{frame.type}", "SANDBOX"
    return Stored(stream, 1, number, subject, headers, frame.raw, at or frame.sent_at + 0.01)


def judged(
    sim: DiscordSim,
    messages: list[Stored],
    *,
    sides: Sides | None = None,
    acks: dict[str, list[Ack]] | None = None,
    kills: list[float] | None = None,
    ended: dict[tuple[str, int], float] | None = None,
) -> Verdict:
    verdict = Verdict(identifies_allowed=1)
    judge = Judge(sides or Sides(), {}, {}, acks or {}, kills or [], ended or {})
    judge.judge(sim.sent, messages, verdict)
    return verdict


def two_messages(sim: DiscordSim) -> tuple[SimGuild, Frame, Frame]:
    guild = sim.add_guild("A")
    sim.sent.clear()
    (one,), (two,) = sim.message(guild), sim.message(guild)
    return guild, one, two


async def test_exactly_what_was_sent_passes(sim: DiscordSim) -> None:
    _, one, two = two_messages(sim)
    verdict = judged(sim, [stored(one), stored(two, number=2)])
    assert verdict.passed
    assert (verdict.sent, verdict.delivered) == (2, 2)


async def test_a_missing_event_is_lost(sim: DiscordSim) -> None:
    _, one, _ = two_messages(sim)
    verdict = judged(sim, [stored(one)])
    assert verdict.faults == {"lost": 1}
    assert not verdict.passed


async def test_an_event_of_an_ended_session_is_discords_gap(sim: DiscordSim) -> None:
    _, one, _ = two_messages(sim)
    sim.hub.kill(sim.sessions[0])
    verdict = judged(sim, [stored(one)])
    assert verdict.faults == {}
    assert verdict.gaps == 1


async def test_an_ended_session_excuses_nothing_that_a_living_client_was_sent(sim: DiscordSim) -> None:
    _, one, two = two_messages(sim)
    session = sim.sessions[0]
    sim.hub.kill(session)
    session.ended_connected = True
    assert judged(sim, [stored(one)]).faults == {"lost": 1}
    assert judged(sim, [stored(one)], kills=[two.sent_at - 60]).faults == {"lost": 1}
    assert judged(sim, [stored(one)], kills=[two.sent_at]).gaps == 1


async def test_the_same_event_on_both_sides_is_doubled(sim: DiscordSim) -> None:
    guild, one, two = two_messages(sim)
    sides = Sides()
    sides.changed(guild.id, SANDBOX, one.sent_at - 1, None)
    verdict = judged(sim, [stored(one), stored(one, SANDBOX), stored(two, number=2)], sides=sides)
    assert verdict.faults == {"doubled": 1}


async def test_the_same_event_in_two_sessions_is_one_event(sim: DiscordSim) -> None:
    sim.hub.open(shard=0, shard_count=1, intents=513, identify={})
    sim.sent.clear()
    guild = sim.add_guild("A")
    sim.sent.clear()
    one, other = sim.message(guild)
    assert judged(sim, [stored(one), stored(other, number=2)]).faults == {"doubled": 1}
    assert judged(sim, [stored(other)]).passed


async def test_a_repeat_after_the_memory_was_lost_is_told_apart(sim: DiscordSim) -> None:
    guild, one, two = two_messages(sim)
    sides = Sides()
    sides.changed(guild.id, SANDBOX, one.sent_at - 2, one.sent_at - 1)
    again = replace(stored(one, SANDBOX), life=2, at=one.sent_at + 2)
    messages = [stored(one, SANDBOX), again, stored(two, SANDBOX, number=2)]
    verdict = judged(sim, messages, sides=sides, ended={("SANDBOX", 1): one.sent_at + 1})
    assert verdict.faults == {}
    assert verdict.repeated == 1
    # The stream's memory was there when it was stored again.
    verdict = judged(sim, messages, sides=sides, ended={("SANDBOX", 1): one.sent_at + 3})
    assert verdict.faults == {"doubled": 1}


async def test_a_changed_byte_and_a_changed_header_are_seen(sim: DiscordSim) -> None:
    _, one, two = two_messages(sim)
    shorter = replace(stored(one), payload=one.raw.replace(b": ", b":") + b" ")
    other = stored(two, number=2)
    other.headers["Discord-Guild-Id"] = "1"
    assert judged(sim, [shorter, other]).faults == {"altered": 2}


async def test_events_of_one_guild_in_the_wrong_order(sim: DiscordSim) -> None:
    _, one, two = two_messages(sim)
    assert judged(sim, [stored(two), stored(one, number=2)]).faults == {"out of order": 1}


async def test_what_nobody_sent_is_strange(sim: DiscordSim) -> None:
    _, one, two = two_messages(sim)
    foreign = stored(one)
    foreign.headers["Nats-Msg-Id"] = "somebody:0:1"
    assert judged(sim, [stored(one), stored(two, number=2), foreign]).faults == {"strange": 1}


async def test_the_side_is_judged_by_the_answers_to_the_commands(sim: DiscordSim) -> None:
    guild, one, two = two_messages(sim)
    begin, end = one.sent_at, two.sent_at + 0.01
    sides = Sides()
    # Registered before both were sent: production is wrong.
    sides.changed(guild.id, SANDBOX, begin - 2, begin - 1)
    on_both = [stored(one), stored(two, SANDBOX)]
    assert judged(sim, on_both, sides=sides).faults == {"wrong side": 1}
    # Unregistered, and not answered before the second was stored: either side is right for it.
    sides.changed(guild.id, PRODUCTION, end - 0.001, end + 1)
    assert judged(sim, [stored(one, SANDBOX), stored(two, at=end)], sides=sides).passed
    # Answered before it was sent: the sandbox is wrong.
    late = Sides()
    late.changed(guild.id, SANDBOX, begin - 4, begin - 3)
    late.changed(guild.id, PRODUCTION, begin - 2, begin - 1)
    messages = [stored(one), stored(two, SANDBOX, at=time.time())]
    assert judged(sim, messages, sides=late).faults == {"wrong side": 1}


async def test_what_was_acknowledged_and_removed_with_its_sandbox_is_delivered(sim: DiscordSim) -> None:
    guild, one, two = two_messages(sim)
    sides = Sides()
    sides.changed(guild.id, SANDBOX, one.sent_at - 2, one.sent_at - 1)
    subject = f"sandbox.{SANDBOX}.events.MESSAGE_CREATE"
    acks = {identity(one): [Ack(subject, "SANDBOX", one.sent_at, duplicate=False)]}
    verdict = judged(sim, [stored(two, SANDBOX)], sides=sides, acks=acks)
    assert verdict.passed
    assert (verdict.delivered, verdict.gone) == (2, 1)
    acks = {identity(one): [Ack("events.MESSAGE_CREATE", "EVENTS", one.sent_at, duplicate=False)]}
    assert judged(sim, [stored(two, SANDBOX)], sides=sides, acks=acks).faults == {"lost": 1}


def test_the_side_of_a_subject_in_an_account_of_its_own() -> None:
    assert side_of(f"slot.003.{SANDBOX}.events.MESSAGE_CREATE") == SANDBOX
    assert side_of(f"sandbox.{SANDBOX}.events.MESSAGE_CREATE") == SANDBOX


def test_a_delay_is_no_noise() -> None:
    calm = Latency.of([10.0] * 99 + [20.0])
    assert (calm.events, calm.p50, calm.p99, calm.largest) == (100, 10.0, 20.0, 20.0)
    assert Beside(Latency.of([40.0] * 100), calm, None, 1.0).within_noise
    # A hundredth of the events waits until the fault is over.
    assert not Beside(Latency.of([10.0] * 98 + [2000.0] * 2), calm, None, 1.0).within_noise
