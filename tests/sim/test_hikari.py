"""hikari, a client that shares no code with discord.py, connects, receives and resumes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from discord_sim import DiscordSim, SimGuild, SimUser

if TYPE_CHECKING:
    from .hikari_bot import Listener

APPLICATION_ID = 1_100_000_000_000_000_001
# hikari reads the application's id from the first part of a token, as Discord makes them.
TOKEN = f"{base64.b64encode(str(APPLICATION_ID).encode()).decode().rstrip('=')}.made.up"


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """A simulator whose token has the shape of a real one."""
    async with DiscordSim(TOKEN, application_id=APPLICATION_ID, record=True) as running:
        yield running


@pytest.fixture(params=["zlib-stream", "zstd-stream"])
def compression(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What hikari asks for. Its own default depends on what is installed."""
    from hikari.api.shard import GatewayCompression
    from hikari.impl.shard import GatewayShardImpl

    kind = GatewayCompression(f"transport_{request.param.replace('-', '_')}")
    defaults = GatewayShardImpl.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "compression", kind)
    return str(request.param)


@pytest.fixture
async def listener(sim: DiscordSim, guild: SimGuild, compression: str) -> AsyncIterator[Listener]:
    """A started hikari bot."""
    from .hikari_bot import Listener

    listening = Listener(sim)
    await listening.bot.start(check_for_updates=False, shard_count=1, shard_ids=[0])
    yield listening
    await listening.bot.close()


async def test_receives_guilds_and_messages(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, listener: Listener, compression: str
) -> None:
    assert [c.compression for c in sim.gateway.connections] == [compression]
    await sim.wait_for(lambda: listener.bot.cache.get_guild(guild.id) is not None)
    cached = listener.bot.cache.get_guild(guild.id)
    assert cached is not None
    assert (cached.name, cached.owner_id) == ("Dev", alice.id)
    sim.message(guild, content="héllo")
    await sim.wait_for(lambda: listener.contents == ["héllo"])
    replies = await sim.dm(alice, "direct")
    assert listener.direct == ["direct"]
    assert [m.text for m in replies] == ["heard"]


@pytest.mark.parametrize("fault", ["drop", "reconnect"])
async def test_resumes_exactly(sim: DiscordSim, guild: SimGuild, listener: Listener, fault: str) -> None:
    await sim.flood(500, guilds=[guild])
    await sim.wait_for(lambda: len(listener.contents) == 500, timeout=60)
    await (sim.drop() if fault == "drop" else sim.reconnect())
    for number in range(20):
        sim.message(guild, content=f"missed {number}")
    await sim.wait_for(lambda: listener.resumed == 1 and len(listener.contents) >= 520, timeout=60)
    assert listener.contents[500:] == [f"missed {n}" for n in range(20)]
    assert (len(sim.identifies), len(sim.resumes)) == (1, 1)


async def test_identifies_after_an_invalid_session(
    sim: DiscordSim, guild: SimGuild, listener: Listener
) -> None:
    await sim.invalidate(False)
    await sim.wait_for(lambda: len(sim.identifies) == 2, timeout=60)
    sim.message(guild, content="after")
    await sim.wait_for(lambda: listener.contents == ["after"])


async def test_rest_and_interactions(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, listener: Listener
) -> None:
    rest = listener.bot.rest
    application = await rest.fetch_application()
    assert (application.id, application.owner.username) == (APPLICATION_ID, "owner")
    builder = rest.slash_command_builder("ping", "Answers")
    (command,) = await rest.set_application_commands(application, [builder], guild.id)
    assert command.name == "ping"
    fetched = await rest.fetch_guild(guild.id)
    assert fetched.name == "Dev"
    assert (await rest.fetch_member(guild.id, alice.id)).username == "alice"
    result = await sim.slash(alice, guild.default_channel, "ping")
    assert result.ephemeral
    assert result.text == "Pong\nfrom hikari"
    clicked = await sim.click(result, alice, label="Go")
    assert clicked.text == "gone"
    assert sim.unknown_requests == []
