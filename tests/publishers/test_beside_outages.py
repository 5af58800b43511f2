"""Of two processes on one shard one publishes, also while servers are away or the one is frozen."""

from __future__ import annotations

import signal

from sandbox_bot.embedded import EmbeddedServers
from tests.gateway.conftest import until

from .conftest import Side, stands_by


async def test_postgresql_away_changes_nothing(side: Side, servers: EmbeddedServers) -> None:
    host = await side.start_host()
    await side.published_by("plugin")
    bot = await side.start_bot()
    await stands_by(bot)
    await until(lambda: len([s for s in side.sim.sessions if s.connected]) == 2)
    await servers.postgres.kill()
    for process in (host, bot):
        await until(lambda process=process: process.says("leases_not_renewed"))
    flood = side.flood(1_500)
    # Longer than a lease. Nothing happens afterwards that could still prove what the first has stored.
    await flood.reached(1_500)
    await flood.over()
    await servers.postgres.start()
    for process in (host, bot):
        await until(lambda process=process: process.says("leases_confirmed"))
    await side.checked()
    assert not bot.says("shard_joined")
    await host.end(signal.SIGKILL)
    await until(lambda: bot.says("shard_joined"))
    flood = side.flood(200)
    await flood.over()
    await side.checked()
    assert await side.gaps(bot) == 0


async def test_nats_away_while_the_first_is_killed(side: Side, servers: EmbeddedServers) -> None:
    host = await side.start_host()
    await side.published_by("plugin")
    bot = await side.start_bot()
    await stands_by(bot)
    await until(lambda: len([s for s in side.sim.sessions if s.connected]) == 2)
    flood = side.flood(1_800)
    await flood.reached(300)
    await servers.nats.kill()
    sent = flood.sent
    await flood.reached(sent + 300)
    await host.end(signal.SIGKILL)
    await side.published_by("standalone")
    await servers.nats.start()
    await until(lambda: bot.says("shard_joined"))
    await flood.over()
    await side.checked()
    assert await side.gaps(bot) == 0


async def test_a_plugin_that_was_frozen_lets_go_of_what_the_other_took(side: Side) -> None:
    host = await side.start_host()
    await side.published_by("plugin")
    bot = await side.start_bot()
    await stands_by(bot)
    await until(lambda: len([s for s in side.sim.sessions if s.connected]) == 2)
    flood = side.flood(2_000)
    await flood.reached(500)
    host.process.send_signal(signal.SIGSTOP)
    await side.published_by("standalone")
    await until(lambda: bot.says("shard_joined"))
    host.process.send_signal(signal.SIGCONT)
    await stands_by(host)
    await flood.reached(flood.sent + 500)
    await bot.end(signal.SIGKILL)
    await until(lambda: host.says("shard_joined"))
    await flood.over()
    await side.checked()


async def test_a_plugin_that_starts_without_postgresql_asks_the_others(
    side: Side, servers: EmbeddedServers
) -> None:
    bot = await side.start_bot()
    await side.published_by("standalone")
    await servers.postgres.kill()
    await until(lambda: bot.says("leases_not_renewed"))
    host = await side.start_host()
    await until(lambda: host.says("leases_not_renewed"))
    flood = side.flood(800)
    await flood.reached(800)
    await servers.postgres.start()
    await stands_by(host)
    await flood.over()
    await side.checked()
    await bot.end(signal.SIGTERM)
    await until(lambda: host.says("shard_joined"))
    await servers.postgres.kill()
    # With nobody there it takes the shard itself. Where its events go nobody can tell before.
    await host.end(signal.SIGKILL)
    again = await side.start_host()
    await until(lambda: again.says("shards_run_without_leases"))
    flood = side.flood(200)
    await flood.over()
    await servers.postgres.start()
    await until(lambda: again.says("leases_confirmed"))
    await side.published_by("plugin")
    await side.checked()
