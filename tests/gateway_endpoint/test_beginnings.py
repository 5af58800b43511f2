"""What happens while a session begins: no event falls between, and no end is heard too late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from sandbox_core.nats.stream_place import StreamPlace, StreamState
from sandbox_gateway.guilds import GuildSnapshots

from .raw import ALL, connected
from .stage import ALICE, Addresses, Process, Stage, until
from .test_protocol import pause

Meanwhile = Callable[[Callable[[], Awaitable[object]]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Does something right after the position of the next session was asked for."""
    ask = StreamPlace.state
    todo: list[Callable[[], Awaitable[object]]] = []

    async def state(place: StreamPlace) -> StreamState:
        found = await ask(place)
        if todo:
            await todo.pop()()
        return found

    monkeypatch.setattr(StreamPlace, "state", state)
    return todo.append


async def test_an_event_while_the_position_is_noted_has_one_number(
    stage: Stage, process: Process, meanwhile: Meanwhile
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    token = stage.token(mine)
    async with connected(process) as first, connected(process) as second:
        await first.identify(token)
        await pause()

        async def write() -> None:
            stage.sim.message(guild, content="meanwhile")
            await first.until_content("meanwhile")

        meanwhile(write)
        await second.identify(token)
        stage.sim.message(guild, content="after")
        found = await second.until_content("after")
        assert [(each["s"], each["d"]["content"]) for each in found] == [(3, "meanwhile"), (4, "after")]
    # Whoever counts from the session's beginning finds the same numbers.
    other = await stage.start()
    async with connected(other) as again:
        await again.resume(token, second.session_id, 3)
        resumed = await again.until_event("RESUMED")
        assert [(each["s"], each["t"]) for each in resumed] == [(4, "MESSAGE_CREATE"), (4, "RESUMED")]


async def test_a_sandbox_that_ends_while_its_bot_identifies(
    stage: Stage, process: Process, meanwhile: Meanwhile
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    token = stage.token(mine)
    # Whoever waits for this server's description waits long.
    stage.sim.show_page(503, path=f"/guilds/{guild.id}")

    async def destroy() -> None:
        await stage.core.manager.destroy(ALICE, "mine")
        await until(lambda: process.endpoint.tenants.current(mine.id) is None)

    async with connected(process) as keeps, connected(process) as raw:
        await keeps.send(2, {"token": token, "intents": ALL, "properties": {}})
        await keeps.until_event("READY")
        await pause()
        meanwhile(destroy)
        await raw.send(2, {"token": token, "intents": ALL, "properties": {}})
        assert await raw.close_code() == 4004


@pytest.mark.parametrize("asked", ["guild_create", "members", "sounds"])
async def test_a_server_that_is_given_back_is_not_described_afterwards(
    stage: Stage, process: Process, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    ask = getattr(GuildSnapshots, asked)

    async def too_late(*arguments: object, **named: object) -> object:
        found = await ask(*arguments, **named)
        await stage.unregister(guild)
        await until(lambda: not _has(process, mine.id))
        return found

    gone = {"id": str(guild.id), "unavailable": True}
    async with connected(process) as raw:
        if asked == "guild_create":
            monkeypatch.setattr(GuildSnapshots, asked, too_late)
            found = await raw.identify(stage.token(mine))
            assert [each["t"] for each in found] == ["READY", "GUILD_DELETE"]
            assert found[-1]["d"] == gone
            return
        await raw.identify(stage.token(mine))
        monkeypatch.setattr(GuildSnapshots, asked, too_late)
        op, more = (8, {"guild_id": str(guild.id), "query": "", "limit": 0}), {"guild_ids": [str(guild.id)]}
        await raw.send(*(op if asked == "members" else (31, more)))
        answer = await raw.receive()
        assert (answer["t"], answer["d"]) == ("GUILD_DELETE", gone)


def _has(process: Process, sandbox_id: UUID) -> bool:
    tenant = process.endpoint.tenants.current(sandbox_id)
    return tenant is not None and bool(tenant.guild_ids)


async def test_an_address_with_one_more_slash_and_fields_without_a_value(
    stage: Stage, process: Process
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(Addresses(f"{process.url}/")) as raw:
        found = await raw.identify(stage.token(mine), large_threshold=None, shard=None)
        assert [each["t"] for each in found] == ["READY", "GUILD_CREATE"]


async def test_the_bot_hears_of_itself_without_the_intent_for_members(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine), intents=1 | 1 << 9 | 1 << 15)
        for user_id in (guild.owner.id, stage.sim.application_id):
            update = {"guild_id": str(guild.id), "user": {"id": str(user_id)}, "roles": []}
            stage.sim.emit("GUILD_MEMBER_UPDATE", update)
        stage.sim.message(guild, content="after")
        found = await raw.until_content("after")
        assert [each["t"] for each in found] == ["GUILD_MEMBER_UPDATE", "MESSAGE_CREATE"]
        assert found[0]["d"]["user"]["id"] == str(stage.sim.application_id)
