"""discord.py against the simulator: commands, components, messages, reconnects."""

from __future__ import annotations

import discord
import pytest

from discord_sim import DiscordSim, SimError, SimGuild, SimUser
from tests.sim.conftest import StartBot
from tests.sim.example_bot import PlainBot, ShardedBot


@pytest.fixture
async def bot(start: StartBot, guild: SimGuild) -> PlainBot:
    """A ready bot with its commands synced."""
    client = PlainBot(guild.id)
    await start(client)
    return client


async def test_connects_with_guilds_members_and_commands(
    sim: DiscordSim, guild: SimGuild, bot: PlainBot
) -> None:
    assert [g.name for g in bot.guilds] == ["Dev"]
    assert {m.name for m in bot.guilds[0].members} == {"alice", sim.bot_user.name}
    assert bot.application_id == sim.application_id
    assert [c["name"] for c in sim.world.commands.in_scope(guild.id)] == ["sandbox", "types"]
    assert sim.unknown_requests == []


async def test_members_are_looked_up_live(
    sim: DiscordSim, guild: SimGuild, bot: PlainBot, alice: SimUser
) -> None:
    here = bot.get_guild(guild.id)
    assert here is not None
    bob = sim.add_user("bob")
    with pytest.raises(discord.NotFound) as missing:
        await here.fetch_member(bob.id)
    assert missing.value.code == 10007
    guild.add_member(bob, permissions=discord.Permissions(manage_guild=True).value)
    await sim.wait_for(lambda: here.get_member(bob.id) is not None)
    assert (await here.fetch_member(bob.id)).guild_permissions.manage_guild
    assert (await here.fetch_member(alice.id)).guild_permissions.administrator
    assert (await bot.fetch_user(bob.id)).name == "bob"
    assert {m.name async for m in here.fetch_members()} == {"alice", "bob", sim.bot_user.name}


async def test_a_guild_that_is_left_is_refused(sim: DiscordSim, guild: SimGuild, bot: PlainBot) -> None:
    guild.remove_bot()
    await sim.wait_for(lambda: not bot.guilds)
    with pytest.raises(discord.NotFound) as gone:
        await bot.fetch_guild(guild.id)
    assert gone.value.code == 10004
    with pytest.raises(discord.Forbidden) as hidden:
        await bot.fetch_channel(guild.default_channel.id)
    assert hidden.value.code == 50001


async def test_direct_messages(sim: DiscordSim, alice: SimUser, bot: PlainBot) -> None:
    replies = await sim.dm(alice, "status")
    assert [m.text for m in replies] == ["you said status"]
    user = await bot.fetch_user(alice.id)
    sent = await user.send("an alert")
    await sent.edit(content="a changed alert")
    assert (await sent.channel.fetch_message(sent.id)).content == "a changed alert"
    history = [m.content async for m in sent.channel.history()]
    assert history == ["a changed alert", "you said status", "status"]
    await sent.delete()
    with pytest.raises(discord.NotFound):
        await sent.channel.fetch_message(sent.id)


async def test_bad_messages_are_refused_as_discord_refuses_them(guild: SimGuild, bot: PlainBot) -> None:
    channel = bot.get_channel(guild.default_channel.id)
    assert isinstance(channel, discord.TextChannel)
    with pytest.raises(discord.HTTPException, match="Must be between 0 and 2000 in length") as long:
        await channel.send("x" * 2001)
    assert long.value.code == 50035
    with pytest.raises(discord.HTTPException) as empty:
        await channel.send("")
    assert empty.value.code == 50006
    with pytest.raises(discord.HTTPException, match=r"embeds\.0\.description"):
        await channel.send(embed=discord.Embed(description="x" * 4097))


async def test_a_wrong_token_is_refused(sim: DiscordSim, bot: PlainBot) -> None:
    other = discord.Client(intents=discord.Intents.none())
    with pytest.raises(discord.LoginFailure):
        await other.login("not-the-token")
    await other.close()


async def test_injected_failures_reach_the_bot(sim: DiscordSim, guild: SimGuild, bot: PlainBot) -> None:
    sim.fail_next("GET", f"/guilds/{guild.id}$", status=403)
    with pytest.raises(discord.Forbidden):
        await bot.fetch_guild(guild.id)
    assert (await bot.fetch_guild(guild.id)).name == "Dev"


@pytest.mark.parametrize("fault", ["drop", "reconnect", "invalid_true", "close_4000"])
async def test_resumes_and_gets_exactly_what_was_missed(
    sim: DiscordSim, guild: SimGuild, bot: PlainBot, fault: str
) -> None:
    sim.message(guild, content="before")
    await sim.wait_for(lambda: bot.contents == ["before"])
    ended = {
        "drop": sim.drop,
        "reconnect": sim.reconnect,
        "invalid_true": lambda: sim.invalidate(True),
        "close_4000": lambda: sim.close(4000),
    }[fault]()
    await ended
    for number in range(5):
        sim.message(guild, content=f"missed {number}")
    await sim.wait_for(lambda: len(bot.contents) >= 6 and bot.resumed == 1, timeout=60)
    sim.message(guild, content="after")
    await sim.wait_for(lambda: "after" in bot.contents)
    assert bot.contents == ["before", *(f"missed {n}" for n in range(5)), "after"]
    assert (len(sim.identifies), len(sim.resumes)) == (1, 1)
    (resume,) = sim.resumes
    assert resume.replayed is not None
    assert resume.replayed <= 5


@pytest.mark.parametrize("fault", ["invalid_false", "close_4009"])
async def test_a_lost_session_is_identified_anew(
    sim: DiscordSim, guild: SimGuild, bot: PlainBot, fault: str
) -> None:
    await (sim.invalidate(False) if fault == "invalid_false" else sim.close(4009))
    await sim.wait_for(lambda: len(sim.identifies) == 2, timeout=60)
    sim.message(guild, content="after")
    await sim.wait_for(lambda: "after" in bot.contents)
    assert [s.alive for s in sim.sessions] == [False, True]
    assert all(r.replayed is None for r in sim.resumes)


async def test_two_shards_of_one_client(sim: DiscordSim, guild: SimGuild, start: StartBot) -> None:
    # A second IDENTIFY of one bucket would have to wait for five seconds.
    sim.rules.max_concurrency = 2
    guilds = [guild, *(sim.add_guild(f"g{n}") for n in range(3))]
    client = ShardedBot(guild.id)
    await start(client)
    await sim.wait_connected(shards=2)
    assert {g.id: g.shard_id for g in client.guilds} == {g.id: (g.id >> 22) % 2 for g in guilds}
    await sim.drop(shard=1)
    for each in guilds:
        sim.message(each, content=each.name)
    await sim.wait_for(lambda: len(client.contents) == 4, timeout=60)
    assert set(client.contents) == {g.name for g in guilds}


async def test_a_flood_reaches_a_library_complete_and_in_order(
    sim: DiscordSim, guild: SimGuild, bot: PlainBot
) -> None:
    other = sim.add_guild("other")
    sim.message(guild, content="live before")
    report = await sim.flood(1500, guilds=[guild, other])
    sim.message(guild, content="live after")
    await sim.wait_for(lambda: len(bot.messages) == 1502, timeout=60)
    assert bot.contents[0] == "live before"
    assert bot.contents[-1] == "live after"
    ids = [m.id for m in bot.messages]
    assert ids == sorted(set(ids))
    assert report.by_guild == {guild.id: 750, other.id: 750}
    (frames,) = report.sequences.values()
    assert frames[1] - frames[0] + 1 == 1500
    assert [m.guild.id for m in bot.messages[1:3] if m.guild] == [guild.id, other.id]


async def test_misuse_of_a_result_is_explained(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot
) -> None:
    result = await sim.slash(alice, guild.default_channel, "sandbox create", name="x")
    with pytest.raises(SimError, match="Confirm"):
        await sim.click(result, alice, label="Nope")
    with pytest.raises(SimError, match="did not open a form"):
        await sim.submit_modal(result, alice)
