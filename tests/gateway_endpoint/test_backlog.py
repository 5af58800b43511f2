"""`status` says who is how far behind: each consumer, and each session of an ordinary bot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from nats.js.api import ConsumerConfig

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.backlog_text import Behind, lines
from sandbox_core.health import SandboxHealth
from tests.conftest import revive

from .raw import connected
from .stage import Process, Stage

PROPERTIES = {"os": "linux", "browser": "discord.py\x1b[31m", "device": "discord.py"}


async def once(stage: Stage, right: Callable[[SandboxHealth], object]) -> SandboxHealth:
    """The status of `mine` as soon as it is so: sessions are saved once a second."""
    async with asyncio.timeout(20):
        while not right(health := await stage.core.manager.health("mine")):
            await asyncio.sleep(0.05)
    return health


def lags(health: SandboxHealth) -> list[tuple[str, bool, int | None]]:
    return [
        (each.session.library, each.session.connected, each.lag) for each in health.backlog.sessions or ()
    ]


async def test_consumers_and_ordinary_bots_each_have_their_own(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    place = await stage.core.places.of(mine.id, credentials=mine.generation)
    config = ConsumerConfig(durable_name=f"{mine.id}-worker", filter_subject=place.subject)
    await place.js.add_consumer(place.stream, config)
    empty = await stage.core.manager.health("mine")
    assert (lags(empty), empty.clients) == ([], 0)
    assert lines(empty) == [Behind("Consumer", "worker", "up to date"), Behind("Dead letters", "", "0")]
    async with connected(process) as raw:
        await raw.identify(stage.token(mine), properties=PROPERTIES)
        for word in ("one", "two", "three"):
            stage.sim.message(guild, content=word)
        await raw.until_content("three")
        health = await once(stage, lambda found: lags(found) == [("discord.py[31m", True, 0)])
        (worker,) = health.backlog.consumers.known if health.backlog.consumers else ()
        assert (worker.name, worker.lag, health.clients) == ("worker", 3, 1)
    health = await once(stage, lambda found: found.clients == 0)
    stage.sim.message(guild, content="four")
    await stage.published()
    health = await once(stage, lambda found: lags(found) == [("discord.py[31m", False, 1)])
    (session,) = health.backlog.sessions or ()
    number = session.session.number
    assert lines(health) == [
        Behind("Consumer", "worker", "4 behind"),
        Behind("Bot", f"discord.py[31m {number}", "1 behind, away: it can still resume"),
        Behind("Dead letters", "", "0"),
    ]
    async with connected(await stage.start()) as again:
        await again.resume(stage.token(mine), raw.session_id, raw.sequence or 0)
        await again.until_event("RESUMED")
        # The library is known from the beginning: a RESUME does not say it.
        await once(stage, lambda found: lags(found) == [("discord.py[31m", True, 0)])


async def test_what_a_library_says_of_itself_is_never_a_reason_to_refuse(
    stage: Stage, process: Process
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    for properties in (None, [], 7, {"browser": {"a": 1}}, {"$browser": "x" * 500}):
        async with connected(process) as raw:
            await raw.identify(stage.token(mine), properties=properties)
            await once(stage, lambda found: found.clients == 1)
        await once(stage, lambda found: found.clients == 0)
    health = await stage.core.manager.health("mine")
    assert sorted({library for library, *_ in lags(health)}) == ["", "x" * 32]


async def test_what_cannot_be_read_is_named_and_never_nothing(
    stage: Stage, process: Process, closed: EmbeddedServers
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine), properties=PROPERTIES)
        await once(stage, lambda found: found.clients == 1)
        await closed.tenant_nats.stop()
        try:
            health = await once(stage, lambda found: found.backlog.consumers is None)
            assert health.backlog.unread.keys() == {"consumers", "lags"}
            assert (lags(health), health.clients) == ([("discord.py[31m", True, None)], 1)
            consumers, bot, unread, letters = lines(health)
            assert consumers.text.startswith("not known: NATS is unavailable (")
            assert bot.text == "how far it is behind is not known"
            assert unread.text.startswith("not known: NATS is unavailable (")
            assert letters.text == "not known"
        finally:
            await revive(closed.tenant_nats)
        # It is known again once the bot is connected again, and its stream is made anew.
        await once(stage, lambda found: found.backlog.consumers is not None)
        await closed.valkey.stop()
        try:
            health = await once(stage, lambda found: found.backlog.sessions is None)
            assert "Redis is unavailable (" in health.backlog.unread["sessions"]
            assert health.clients is None
            assert [each.what for each in lines(replace(health, parts=()))][-2:] == [
                "Ordinary bots",
                "Dead letters",
            ]
        finally:
            await revive(closed.valkey)
        await once(stage, lambda found: found.backlog.sessions is not None)
