"""Servers whose events come to another process: this one's commands know them all the same."""

from __future__ import annotations

from discord_sim import DiscordSim
from tests.e2e.harness import Live, settings_for

from .conftest import StartBot


async def test_another_processs_servers_are_suggested_and_registered(
    sim: DiscordSim, urls: dict[str, str], start_bot: StartBot
) -> None:
    alice, bob = sim.add_user("alice"), sim.add_user("bob")
    dev, *guilds = (sim.add_guild(name, owner=alice) for name in ("dev", *(f"guild-{n}" for n in range(4))))
    bobs = [sim.add_guild(f"bobs-{n}", owner=bob) for n in range(2)]
    here = (dev.id >> 22) % 2
    settings = settings_for(sim, dev, urls, discord_shard_count=2, discord_shard_ids=str(here))
    live = Live(sim, await start_bot(settings), alice, [dev, *guilds])
    far = [guild for guild in guilds if (guild.id >> 22) % 2 != here]
    assert far
    assert {guild.id for guild in live.run.bot.guilds} == {
        guild.id for guild in (dev, *guilds, *bobs) if (guild.id >> 22) % 2 == here
    }

    async def suggested(typed: str) -> set[str]:
        choices = await sim.autocomplete(
            alice, dev.default_channel, "sandbox register-guild", focused="guild", value=typed
        )
        return {str(value) for _, value in choices}

    assert await suggested("guild-") == {str(guild.id) for guild in guilds}
    assert await suggested(str(far[0].id)) == {str(far[0].id)}
    assert await suggested("bobs") == set()
    # All processes together know of its last day; it had no events, so nothing is asked.
    sandbox_id = await live.create()
    done = await live.slash("register-guild", name="box", guild=str(far[0].id))
    await done.wait_until(lambda r: "Server registered" in r.text, timeout=60)
    sandbox = await live.run.bot.sandbox_core.manager.get(sandbox_id)
    assert sandbox.guild_ids == (str(far[0].id),)
    # The list is asked for once in a while, not for every keystroke.
    listed = [request for request in sim.requests if request.route == "/users/@me/guilds"]
    assert len(listed) == 1


async def test_while_discord_does_not_list_them_this_processs_are_suggested(
    sim: DiscordSim, urls: dict[str, str], start_bot: StartBot
) -> None:
    alice = sim.add_user("alice")
    dev, *guilds = (sim.add_guild(name, owner=alice) for name in ("dev", *(f"guild-{n}" for n in range(4))))
    here = (dev.id >> 22) % 2
    await start_bot(settings_for(sim, dev, urls, discord_shard_count=2, discord_shard_ids=str(here)))
    sim.fail_next("GET", "/users/@me/guilds", status=403)
    for _ in range(2):
        choices = await sim.autocomplete(
            alice, dev.default_channel, "sandbox register-guild", focused="guild", value="guild-"
        )
        assert {int(value) for _, value in choices} == {
            guild.id for guild in guilds if (guild.id >> 22) % 2 == here
        }
