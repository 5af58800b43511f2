"""The scenarios: what goes wrong, and in which world. The faults are in the modules beside this one.

Each fault acts for so many seconds while traffic runs, and heals at its end.
"""

from __future__ import annotations

from . import (
    client_faults,
    closed_for_good,
    discord_faults,
    discord_pages,
    full_sandboxes,
    hung_servers,
    isolation_changes,
    mixed_faults,
    process_faults,
    server_faults,
    tenant_faults,
)
from .stage import Scenario

_DROPPING = {tenant_faults.nats_killed, tenant_faults.nats_hung, tenant_faults.nats_full}

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("bot killed", process_faults.bot_killed),
        Scenario("nats killed", server_faults.nats_killed, least=14),
        Scenario("one nats node of three killed", server_faults.nats_node_killed, nats_nodes=3, rate=400),
        Scenario("redis killed", server_faults.redis_killed),
        Scenario("bot and redis killed", server_faults.bot_and_redis_killed),
        Scenario("postgres killed", server_faults.postgres_killed),
        Scenario(
            "started without postgres",
            server_faults.started_without_postgres,
            fixed_shards=False,
            shards=2,
            processes=2,
        ),
        Scenario("op 7 storm", discord_faults.reconnect_storm),
        Scenario("op 9 true", discord_faults.invalid_resumable),
        Scenario("op 9 false", discord_faults.invalid),
        Scenario("close 4000", discord_faults.closed(4000)),
        Scenario("close 4007", discord_faults.closed(4007, new_session=True)),
        Scenario("close 4008", discord_faults.closed(4008)),
        Scenario("close 4009", discord_faults.closed(4009, new_session=True)),
        Scenario("close 1006", discord_faults.dropped),
        Scenario("half-open socket", discord_faults.half_open, heartbeat_ms=1500),
        Scenario("dead resume url", discord_faults.dead_resume_url, least=20),
        Scenario("registrations at 20/s", mixed_faults.nothing, commands=20, guilds=80),
        Scenario("lives of sandboxes at 20/s", mixed_faults.nothing, commands=20, lives=True, guilds=80),
        Scenario(
            "registrations, 3 processes", mixed_faults.nothing, commands=20, guilds=80, shards=3, processes=3
        ),
        Scenario(
            "process frozen", process_faults.process_frozen, commands=4, guilds=80, shards=3, processes=3
        ),
        Scenario(
            "stale route cache", server_faults.stale_cache, commands=8, guilds=80, shards=2, processes=2
        ),
        Scenario(
            "cut off from postgres",
            process_faults.cut_off,
            fixed_shards=False,
            proxied=True,
            guilds=80,
            shards=4,
            processes=2,
        ),
        Scenario("rolling restart", process_faults.rolling_restart, fixed_shards=False, shards=2),
        Scenario(
            "plugin beside standalone",
            process_faults.plugin_beside,
            rate=300,
            fixed_shards=False,
            plugin=True,
            least=40,
        ),
        Scenario("disk full on nats", server_faults.disk_full),
        Scenario(
            "sandbox stream full",
            full_sandboxes.sandbox_stream_full,
            least=6,
            drops=True,
            environment={"SANDBOX_MAX_PENDING": "40", "SANDBOX_MAX_PENDING_ALL": "120"},
        ),
        *(
            Scenario(
                f"sandboxes' {fault.__name__.replace('_', ' ')}",
                fault,
                least=10,
                rate=200,
                isolated=True,
                drops=fault in _DROPPING,
                may_store_dropped=fault is tenant_faults.nats_hung,
                small_disk=400 if fault is tenant_faults.postgres_full else 0,
                environment={"SANDBOX_MAX_PENDING": "20", "SANDBOX_MAX_PENDING_ALL": "60"},
            )
            for fault in (
                tenant_faults.nats_killed,
                tenant_faults.nats_hung,
                tenant_faults.nats_full,
                tenant_faults.valkey_killed,
                tenant_faults.valkey_hung,
                tenant_faults.valkey_full,
                tenant_faults.postgres_killed,
                tenant_faults.postgres_hung,
                tenant_faults.postgres_full,
            )
        ),
        *(
            Scenario(
                name,
                fault,
                least=16,
                rate=200,
                isolated=True,
                clients=True,
                drops=drops,
                environment={"SANDBOX_MAX_PENDING": "20", "SANDBOX_MAX_PENDING_ALL": "60"} if drops else {},
            )
            for name, fault, drops in (
                ("sandboxes' gateways killed", client_faults.gateways_killed, False),
                ("sandboxes' gateways and nats killed", client_faults.gateways_and_nats_killed, True),
            )
        ),
        Scenario(
            "isolation enforced and back",
            isolation_changes.there_and_back,
            rate=300,
            fixed_shards=False,
            shards=2,
            upgrades=True,
            least=12,
        ),
        Scenario("slow nats", server_faults.slow_nats),
        Scenario("nats hung", hung_servers.nats_hung, least=40),
        Scenario("postgres hung", hung_servers.postgres_hung, least=40),
        Scenario("redis hung", hung_servers.redis_hung, least=40),
        Scenario("nats closed for good", closed_for_good.nats_closed, least=30),
        Scenario("cloudflare page", discord_pages.cloudflare_page, least=20),
        Scenario("everything at once", mixed_faults.everything, guilds=160, shards=2, processes=2, least=120),
    )
}
