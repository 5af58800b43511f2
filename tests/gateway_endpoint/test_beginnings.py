"""What happens while a session begins: no event falls between, and no end is heard too late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from sandbox_gateway.sessions.places import StreamPlace, StreamState

from .raw import ALL, connected
from .stage import ALICE, Process, Stage, until
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
