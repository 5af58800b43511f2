"""Of two processes on one shard one publishes; the other says so, and goes on when the first is gone."""

from __future__ import annotations

import json
import signal

import pytest

from tests.gateway.conftest import until

from .conftest import HostProcess, Side, stands_by


async def test_a_plugin_beside_the_standalone_bot_publishes_nothing_until_that_is_killed(side: Side) -> None:
    bot = await side.start_bot()
    await side.published_by("standalone")
    host = await side.start_host()
    await stands_by(host)
    flood = side.flood(1_500)
    await flood.reached(500)
    await bot.end(signal.SIGKILL)
    await side.published_by("plugin")
    await until(lambda: host.says("shard_joined"))
    await flood.over()
    await side.checked()
    assert not host.says("session_lost")


@pytest.mark.parametrize("how", ["killed", "closed", "unloaded"])
async def test_the_standalone_bot_beside_a_plugin_goes_on_when_that_is(side: Side, how: str) -> None:
    host = await side.start_host()
    assert isinstance(host, HostProcess)
    await side.published_by("plugin")
    bot = await side.start_bot()
    await stands_by(bot)
    await until(lambda: len([s for s in side.sim.sessions if s.connected]) == 2)
    assert "shard 0 is published by the plugin" in str((await side.readiness(bot))["gateway"])
    flood = side.flood(1_500)
    await flood.reached(500)
    if how == "unloaded":
        await host.unload()
    else:
        await host.end(signal.SIGKILL if how == "killed" else signal.SIGTERM)
    await side.published_by("standalone")
    await until(lambda: bot.says("shard_joined"))
    await flood.over()
    await side.checked()
    assert await side.gaps(bot) == 0
    assert "gateway" not in await side.readiness(bot)
    if how == "unloaded":
        # Nobody took the host's session from it.
        assert host.process.returncode is None
        assert side.sim.sessions[0].connected
        assert side.sim.sessions[0].resume_count == 0


async def test_the_standalone_bot_stops_and_the_plugin_goes_on_and_back_again(side: Side) -> None:
    bot = await side.start_bot()
    await side.published_by("standalone")
    host = await side.start_host()
    await stands_by(host)
    flood = side.flood(2_500)
    await flood.reached(500)
    assert await bot.end(signal.SIGTERM) == 0
    await until(lambda: host.says("shard_joined"))
    # What the first left in Redis is not resumed: the plugin has published it.
    again = await side.start_bot()
    await stands_by(again)
    await until(lambda: len([s for s in side.sim.sessions if s.connected]) == 2)
    await flood.reached(flood.sent + 500)
    await host.end(signal.SIGKILL)
    await until(lambda: again.says("shard_joined"))
    await flood.over()
    await side.checked()
    assert side.sim.resumes == []
    assert await side.gaps(again) == 0


async def test_of_two_plugins_one_publishes(side: Side) -> None:
    first = await side.start_host()
    await side.published_by("plugin")
    second = await side.start_host()
    await stands_by(second)
    flood = side.flood(1_500)
    await flood.reached(500)
    await first.end(signal.SIGKILL)
    await until(lambda: second.says("shard_joined"))
    await flood.over()
    await side.checked()
    assert not second.says("session_lost")


@pytest.mark.parametrize("first", ["host", "bot"])
async def test_with_another_number_of_shards_one_publishes(side: Side, first: str) -> None:
    starts = [side.start_host, side.start_bot] if first == "host" else [side.start_bot, side.start_host]
    counts = {side.start_host: {"HOST_SHARDS": "2"}, side.start_bot: {"DISCORD_SHARD_COUNT": "1"}}
    one = await starts[0](**counts[starts[0]])
    await side.published_by("plugin" if first == "host" else "standalone")
    other = await starts[1](**counts[starts[1]])
    await stands_by(other)
    await until(lambda: len([s for s in side.sim.sessions if s.connected]) == 3)
    flood = side.flood(1_500)
    await flood.reached(500)
    await one.end(signal.SIGKILL)
    await side.published_by("standalone" if first == "host" else "plugin")
    await until(lambda: other.says("shard_joined"))
    await flood.over()
    await side.checked()
    assert not other.says("session_lost")


async def test_a_second_publisher_is_told_of_everywhere(side: Side) -> None:
    bot = await side.start_bot()
    await side.published_by("standalone")
    everything = "sandbox_cogs.gateway,sandbox_cogs.sandbox,sandbox_cogs.owner,sandbox_cogs.upkeep"
    host = await side.start_host(HOST_EXTENSIONS=everything)
    await stands_by(host)
    code, output = await side.sandboxctl("doctor", "--json")
    findings = [check for check in json.loads(output)["checks"] if "two processes" in check["detail"]]
    assert code == 1
    assert [(check["area"], check["state"]) for check in findings] == [("PostgreSQL", "failed")]
    assert "publish shard 0 of this application: the standalone bot" in findings[0]["detail"]
    assert "the plugin" in findings[0]["detail"]
    assert "unload sandbox_cogs.gateway" in findings[0]["mend"]

    def told() -> list[str]:
        messages = [m for there in side.sim.world.messages.values() for m in there.values()]
        return [e["title"] for m in messages for e in m.embeds if "Two processes" in e["title"]]

    await until(told)
    # Both processes have the upkeep; each command is answered by the one that publishes.
    alice = side.sim.add_user("alice")
    guild = side.sim.world.guilds[min(side.sim.world.guilds)]
    guild.add_member(alice, permissions=1 << 5)
    before = len(side.sim.requests)
    answer = await side.sim.slash(alice, guild.default_channel, "sandbox create", name="once", timeout=60)
    assert "once" in answer.text
    choices = await side.sim.autocomplete(
        alice, guild.default_channel, "sandbox status", focused="name", value="on", timeout=60
    )
    assert [value for _, value in choices] == ["once"]
    replies = await side.sim.dm(side.sim.owner, "list", timeout=60)
    assert len(replies) == 1
    answered = [r.path for r in side.sim.requests[before:] if r.path.endswith("/callback")]
    assert len(answered) == 2
    assert not bot.says("autocomplete")
    assert not host.says("autocomplete")
    assert len([line for line in host.log if line.count("publishing_stands_by")]) == 1
    assert len(told()) == 1
    await bot.end(signal.SIGTERM)
    await until(lambda: host.says("publishing_stands_by_no_more"))
    code, output = await side.sandboxctl("doctor", "--json")
    assert "two processes" not in output
