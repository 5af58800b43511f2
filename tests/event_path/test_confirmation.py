"""A change of routes is answered when every process has switched; who has not is named, and fenced.

Several whole cores in one process, each with its own connections: to the servers they are as many processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest
from nats.aio.client import Client

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.models import Actor, GuildAccess, Sandbox
from sandbox_core.settings import load_settings

from .conftest import GUILD_A, GUILD_B, dispatch, read_back, until
from .proxy import proxied

ALICE = Actor("200000000000000001", "Alice")
ACCESS = GuildAccess(GUILD_A, bot_is_member=True, caller_manages=True, name="A")


@dataclass
class Gateway:
    """A core and the one session it gets frames of."""

    core: Core
    session: str
    sent: int = 0
    by_guild: dict[str, list[int]] = field(default_factory=dict)

    def send(self, guild_id: str) -> int:
        self.sent += 1
        frame = self.core.intake.read(dispatch(self.sent, guild_id=guild_id))
        assert frame is not None
        self.core.intake.take(frame, 0)
        self.by_guild.setdefault(guild_id, []).append(self.sent)
        return self.sent

    def has_sent(self, guild_id: str, count: int) -> bool:
        return len(self.by_guild.get(guild_id, ())) >= count

    async def idle(self) -> None:
        async with asyncio.timeout(60):
            await self.core.router.idle()


@dataclass
class Fleet:
    """Gateway processes, and one that only changes routes."""

    database_url: str
    redis_url: str
    nats_url: str
    stack: AsyncExitStack
    gateways: list[Gateway] = field(default_factory=list)

    async def gateway(self, database_url: str | None = None) -> Gateway:
        core = await self.core(database_url, follow_routes=True, use_nats=NatsUse.EVENTS)
        await until(lambda: core.routes.current_table is not None)
        made = Gateway(core, f"session{len(self.gateways)}")
        core.intake.adopt(made.session, 0, 0)
        self.gateways.append(made)
        return made

    async def core(self, database_url: str | None, *, follow_routes: bool, use_nats: NatsUse) -> Core:
        settings = load_settings(
            _env_file=None,
            database_url=database_url or self.database_url,
            redis_url=self.redis_url,
            nats_url=self.nats_url,
        )
        opened = open_core(settings, follow_routes=follow_routes, use_nats=use_nats)
        return await self.stack.enter_async_context(opened)

    async def command_line(self, use_nats: NatsUse = NatsUse.NOTHING) -> Core:
        return await self.core(None, follow_routes=False, use_nats=use_nats)


@pytest.fixture
async def fleet(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(database_url, redis_url, nats_url, stack)


async def stored(reader: Client) -> dict[str, str]:
    """By message id, the stream that holds it; fails when two do."""
    sides: dict[str, str] = {}
    for stream in ("EVENTS", "SANDBOX"):
        for message in await read_back(reader, stream):
            identity = message.headers["Nats-Msg-Id"]
            assert identity not in sides, f"{identity} is on two sides"
            sides[identity] = stream
    return sides


async def sandbox_of(core: Core) -> Sandbox:
    return (await core.manager.create(ALICE, name="mine")).sandbox


async def test_when_it_is_answered_every_process_has_switched(fleet: Fleet, reader: Client) -> None:
    gateways = [await fleet.gateway() for _ in range(3)]
    command_line = await fleet.command_line()
    await sandbox_of(gateways[0].core)
    flooding = True

    async def flood(gateway: Gateway) -> None:
        while flooding:
            for guild_id in (GUILD_A, GUILD_B, GUILD_A):
                if not gateway.core.intake.full:
                    gateway.send(guild_id)
            await asyncio.sleep(0.001)

    # What was sent until a change was asked for is on the old side or the new; after its answer, only new.
    certain: dict[str, str] = {}
    floods = [asyncio.create_task(flood(gateway)) for gateway in gateways]
    try:
        for turn in range(6):
            changer = gateways[turn % 3].core if turn < 4 else command_line
            register = turn % 2 == 0
            if register:
                changed = await changer.manager.register_guild(ALICE, "mine", ACCESS)
            else:
                changed = await changer.manager.unregister_guild(ALICE, ACCESS)
            assert changed.unconfirmed == ()
            before = [len(gateway.by_guild.get(GUILD_A, ())) for gateway in gateways]
            for gateway, count in zip(gateways, before, strict=True):
                await until(partial(gateway.has_sent, GUILD_A, count + 50))
            for gateway, count in zip(gateways, before, strict=True):
                # Nothing was decided that came after the answer and before this line: no await in between.
                for seq in gateway.by_guild[GUILD_A][count:]:
                    certain[f"{gateway.session}:0:{seq}"] = "SANDBOX" if register else "EVENTS"
            # The next change finds all of it published, so that it is certain where it had to go.
            flooding = False
            await asyncio.gather(*floods)
            for gateway in gateways:
                await gateway.idle()
            flooding = True
            floods = [asyncio.create_task(flood(gateway)) for gateway in gateways]
    finally:
        flooding = False
        await asyncio.gather(*floods)
    for gateway in gateways:
        await gateway.idle()
    sides = await stored(reader)
    assert len(sides) == sum(gateway.sent for gateway in gateways)
    assert {identity: sides[identity] for identity in certain} == certain
    for gateway in gateways:
        for seq in gateway.by_guild[GUILD_B]:
            assert sides[f"{gateway.session}:0:{seq}"] == "EVENTS"


async def test_destroying_and_creating_with_a_guild_switch_everywhere_too(
    fleet: Fleet, reader: Client
) -> None:
    first, second = await fleet.gateway(), await fleet.gateway()
    created = await first.core.manager.create(ALICE, name="mine", guilds=[ACCESS])
    assert created.unconfirmed == ()
    second.send(GUILD_A)
    await second.idle()
    destroyed = await first.core.manager.destroy(ALICE, "mine")
    assert destroyed.unconfirmed == ()
    second.send(GUILD_A)
    await second.idle()
    # What the sandbox had is gone with it.
    assert await stored(reader) == {"session1:0:2": "EVENTS"}


async def test_a_process_with_something_in_flight_confirms_when_it_is_acknowledged(
    fleet: Fleet, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking, busy = await fleet.gateway(), await fleet.gateway()
    await sandbox_of(asking.core)
    held: list[Callable[[], None]] = []
    submit = busy.core.publisher.submit
    monkeypatch.setattr(
        busy.core.publisher, "submit", lambda publication: held.append(lambda: submit(publication))
    )
    busy.send(GUILD_A)
    busy.send(GUILD_A)
    registering = asyncio.create_task(asking.core.manager.register_guild(ALICE, "mine", ACCESS))
    # Its guild is stopped: what is in flight is waited for, and so is the answer.
    await until(lambda: busy.core.router.lanes[GUILD_A].paused)
    assert (len(held), registering.done()) == (1, False)
    busy.send(GUILD_A)
    # Others go on all the while.
    busy.send(GUILD_B)
    assert len(held) == 2
    monkeypatch.undo()
    for publish in held:
        publish()
    async with asyncio.timeout(60):
        assert (await registering).unconfirmed == ()
    await busy.idle()
    assert await stored(reader) == {
        "session1:0:1": "EVENTS",
        "session1:0:2": "EVENTS",
        "session1:0:3": "SANDBOX",
        "session1:0:4": "EVENTS",
    }


@pytest.mark.parametrize("redis_is_away", [False, True], ids=["Redis tells it", "NATS tells it"])
async def test_a_process_that_postgresql_does_not_reach_is_named_and_fenced(
    fleet: Fleet, reader: Client, servers: EmbeddedServers, redis_is_away: bool
) -> None:
    asking = await fleet.gateway()
    await sandbox_of(asking.core)
    async with proxied(fleet.database_url) as (proxy, through_it):
        cut_off = await fleet.gateway(through_it)
        cut_off.send(GUILD_A)
        await cut_off.idle()
        proxy.cut()
        if redis_is_away:
            await servers.valkey.kill()
        registered = await asking.core.manager.register_guild(ALICE, "mine", ACCESS)
        assert registered.unconfirmed == (cut_off.core.process.name,)
        assert cut_off.core.routes.current_table is None
        # It does not know it from PostgreSQL, and yet nothing goes where it went before.
        cut_off.send(GUILD_A)
        cut_off.send(GUILD_B)
        await cut_off.idle()
        if redis_is_away:
            await servers.valkey.start()
        proxy.mend()
        await until(lambda: cut_off.core.routes.current_table is not None)
        unregistered = await asking.core.manager.unregister_guild(ALICE, ACCESS)
        assert unregistered.unconfirmed == ()
        cut_off.send(GUILD_A)
        await cut_off.idle()
        assert await stored(reader) == {
            "session1:0:1": "EVENTS",
            "session1:0:2": "SANDBOX",
            "session1:0:3": "EVENTS",
            "session1:0:4": "EVENTS",
        }
        await fleet.stack.aclose()


async def test_who_has_left_is_not_waited_for(fleet: Fleet) -> None:
    asking = await fleet.gateway()
    await sandbox_of(asking.core)
    async with AsyncExitStack() as other:
        here, fleet.stack = fleet.stack, other
        gone = await fleet.gateway()
        fleet.stack = here
        processes = await asking.core.processes.live()
        assert [process.id for process in processes] == [asking.core.process.id, gone.core.process.id]
    assert [process.id for process in await asking.core.processes.live()] == [asking.core.process.id]
    assert (await asking.core.manager.register_guild(ALICE, "mine", ACCESS)).unconfirmed == ()


async def test_a_command_line_is_nobody_to_wait_for(fleet: Fleet) -> None:
    first, second = await fleet.command_line(NatsUse.SANDBOXES), await fleet.command_line()
    await sandbox_of(first)
    assert await first.processes.live() == []
    assert (await second.manager.register_guild(ALICE, "mine", ACCESS)).unconfirmed == ()
