"""The end of a sandbox's life with the standalone bot running: where events go, and what is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from discord_sim import SimGuild
from sandbox_core.subjects import redis_prefix, sandbox_filter
from tests.e2e.harness import Live, StoredEvent, eventually, jetstream, of_types
from tests.streams import stream_of

LEFT = timedelta(seconds=4)
GONE_WITHIN = timedelta(seconds=10)
ON_THE_WAY = timedelta(seconds=0.5)
"""What was sent so shortly before the end may be decided after it."""

Spoken = dict[datetime, datetime]
"""By the moment at which a message was sent, one at which its side was decided already."""


async def expire_soon(live: Live, sandbox_id: str, guild: SimGuild) -> datetime:
    """As if its life had been chosen to end in a moment; people may choose no less than a minute.

    The bot knows it by then.
    """
    moment = datetime.now(UTC) + LEFT
    await live.run.bot.sandbox_core.pool.execute(
        "UPDATE sandboxes SET created_at = $2, expires_at = $3 WHERE id = $1::text::uuid",
        sandbox_id,
        moment - timedelta(hours=1),
        moment,
    )
    routes = live.run.bot.sandbox_core.routes

    def known() -> bool:
        table = routes.current_table
        return table is not None and abs(table.ends_at(str(guild.id)) - moment.timestamp()) < 0.001

    await eventually(known)
    return moment


async def speak_until(live: Live, guild: SimGuild, over: Callable[[], Awaitable[bool]]) -> Spoken:
    """Messages one after the other, each with the moment at which it is sent."""
    core, spoken = live.run.bot.sandbox_core, Spoken()

    def decided() -> bool:
        ledger = core.intake.ledger(0)
        received = ledger is not None and ledger.received == live.sim.sent[-1].seq
        return received and core.router.held == 0

    async def speak_on() -> bool:
        at = datetime.now(UTC)
        live.sim.message(guild, content=at.isoformat())
        await eventually(decided)
        spoken[at] = datetime.now(UTC)
        return await over()

    await eventually(speak_on)
    return spoken


async def in_production(live: Live, guild: SimGuild) -> list[datetime]:
    """When the messages were sent that production received, once all are acknowledged."""
    await live.run.bot.sandbox_core.router.idle()
    stored: list[StoredEvent] = await live.stored(wait=False)
    return [
        datetime.fromisoformat(json.loads(event.payload)["d"]["content"])
        for event in of_types(stored, "MESSAGE_CREATE")
        if event.stream == "EVENTS" and event.headers.get("Discord-Guild-Id") == str(guild.id)
    ]


def assert_flipped_at(moment: datetime, spoken: Spoken, received: list[datetime]) -> None:
    assert min(spoken) < moment - ON_THE_WAY, "nothing was sent while it lived"
    assert {at for at in spoken if at >= moment} <= set(received), "the sandbox got what came too late"
    assert min(spoken[at] for at in received) >= moment, "production got what was the sandbox's"
    assert len(received) == len(set(received))


async def test_events_go_to_production_from_that_moment_on_cleaned_up_or_not(live: Live) -> None:
    await live.run.bot.unload_extension("sandbox_cogs.upkeep")
    sandbox_id, guild = await live.mapped()
    moment = await expire_soon(live, sandbox_id, guild)

    async def over() -> bool:
        return datetime.now(UTC) > moment + timedelta(seconds=1)

    spoken = await speak_until(live, guild, over)

    assert_flipped_at(moment, spoken, await in_production(live, guild))
    row = await live.run.bot.sandbox_core.pool.fetchrow(
        "SELECT status::text, (SELECT count(*) FROM sandbox_guild_mapping) AS mapped FROM sandboxes"
    )
    assert row is not None
    assert tuple(row) == ("running", 1), "something else than the clock has ended it"


async def test_it_is_gone_within_ten_seconds_and_its_owner_hears_of_it(live: Live) -> None:
    core = live.run.bot.sandbox_core
    sandbox_id, guild = await live.mapped()
    await core.redis.set(f"{redis_prefix(sandbox_id)}greeting", "hello")
    async with jetstream(live.run.settings) as js:
        await js.add_consumer(
            stream_of(sandbox_id),
            ConsumerConfig(
                durable_name="worker",
                ack_policy=AckPolicy.EXPLICIT,
                filter_subject=sandbox_filter(sandbox_id),
            ),
        )
        moment = await expire_soon(live, sandbox_id, guild)

        async def destroyed() -> bool:
            return bool(await core.pool.fetchval("SELECT bool_and(status = 'destroyed') FROM sandboxes"))

        spoken = await speak_until(live, guild, destroyed)

        gone_at = await core.pool.fetchval("SELECT destroyed_at FROM sandboxes")
        assert moment <= gone_at < moment + GONE_WITHIN
        assert not await core.pool.fetchval("SELECT sandbox_schema_exists($1)", sandbox_id[:8])
        assert await core.redis.keys(f"{redis_prefix(sandbox_id)}*") == []
        with pytest.raises(NotFoundError):
            await js.stream_info(stream_of(sandbox_id))
        assert await core.pool.fetchval("SELECT count(*) FROM sandbox_guild_mapping") == 0
    assert_flipped_at(moment, spoken, await in_production(live, guild))

    def told() -> list[str]:
        channel = live.sim.world.dm_channel(live.alice)
        return [
            embed["title"]
            for message in live.sim.world.messages.get(channel.id, {}).values()
            for embed in message.embeds
        ]

    # Told that it is about to end, too, when the bot looked in the few seconds before.
    await eventually(lambda: told()[-1:] == ["Sandbox box is gone"])
    await asyncio.wait_for(live.run.stop(), 60)
    assert told().count("Sandbox box is gone") == 1
