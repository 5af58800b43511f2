"""The bot lives with exactly the rights that docs/servers.md gives it: the page's own statements, applied."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import nats
import pytest
from nats.js.api import StreamInfo
from redis.asyncio import Redis

from sandbox_bot.doctor.redis_commands import COMMANDS, KEYS
from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.migrate import migrate
from tests.conftest import revive
from tests.docs.markdown import ROOT, Block, blocks
from tests.doctor.servers import ConfiguredNats, nats_server
from tests.e2e.conftest import StartBot, StartLive
from tests.e2e.harness import eventually
from tests.e2e.programs import program

PAGE = blocks(ROOT / "docs" / "servers.md")
BOT, PASSWORD = "sandbox_bot", "choose-one"


def _blocks(language: str) -> list[Block]:
    return [block for block in PAGE if block.language == language]


def _statements(block: Block) -> list[str]:
    return [statement.strip() for statement in block.text.split(";\n") if statement.strip()]


@dataclass(frozen=True)
class Way:
    """One of the page's ways to set PostgreSQL up: its blocks in their order, and the settings."""

    first: int
    database: str
    schema: str = "public"
    owner: str = BOT
    after_migration: int | None = None


OWN, BESIDE, IN_PUBLIC, OWNER, RUNNER = range(5)
WAYS = {
    "a database of its own": Way(OWN, "sandbox_control"),
    "beside others": Way(BESIDE, "shop", schema="sandbox_control"),
    "two roles": Way(OWNER, "sandbox_control", owner="sandbox_owner", after_migration=RUNNER),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    return chosen


@pytest.fixture
async def database(servers: EmbeddedServers, way: Way) -> AsyncIterator[str]:
    """PostgreSQL as the page sets it up, migrated by who is to migrate it."""
    await revive(servers.postgres)
    admin_url = urlsplit(servers.postgres.admin_url)
    host = admin_url.netloc.rsplit("@", 1)[1]
    sql = _blocks("sql")
    admin = await asyncpg.connect(servers.postgres.admin_url)
    try:
        if way.first == BESIDE:
            await admin.execute("CREATE DATABASE shop")
        for statement in _statements(sql[way.first]):
            await admin.execute(statement)
        owner = f"postgresql://{way.owner}:{PASSWORD}@{host}/{way.database}"
        await migrate(owner, schema=way.schema)
        if way.after_migration is not None:
            connection = await asyncpg.connect(owner)
            for statement in _statements(sql[way.after_migration]):
                await connection.execute(statement)
            await connection.close()
        yield f"postgresql://{BOT}:{PASSWORD}@{host}/{way.database}"
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {way.database} WITH (FORCE)")
        for role in {BOT, way.owner}:
            await admin.execute(f"DROP ROLE IF EXISTS {role}")
        await admin.close()


@pytest.fixture
async def valkey(servers: EmbeddedServers) -> AsyncIterator[tuple[str, Redis]]:
    """Valkey with the page's user; its address, with a database of its own, and an administrator."""
    await revive(servers.valkey)
    url = urlsplit(servers.redis_url)
    admin = Redis.from_url(servers.redis_url, decode_responses=True)
    for line in _blocks("redis")[0].text.splitlines():
        await admin.execute_command(*shlex.split(line))
    await admin.execute_command("ACL", "LOG", "RESET")
    await admin.config_resetstat()
    yield urlunsplit(url._replace(netloc=f"{BOT}:{PASSWORD}@{url.hostname}:{url.port}", path="/61")), admin
    await admin.execute_command("ACL", "DELUSER", BOT)
    await admin.select(61)
    await admin.flushdb()
    await admin.aclose()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ConfiguredNats]:
    """A nats-server with the page's configuration, and a user of the test's own in the bot's account."""
    text = _blocks("conf")[0].text.replace("/var/lib/nats", str(tmp_path / "store"))
    watching = '    users: [{user: test, password: "of-the-test"},\n'
    text = text.replace("    users: [\n", watching)
    async with nats_server(tmp_path, text, max_payload=None, jetstream=None) as running:
        yield running


@pytest.fixture
def urls(database: str, valkey: tuple[str, Redis], server: ConfiguredNats) -> dict[str, str]:
    address = server.url.replace("//", f"//{BOT}:{PASSWORD}@")
    return {"database_url": database, "redis_url": valkey[0], "nats_url": address}


async def test_a_whole_life_with_the_least_privilege(
    start_live: StartLive,
    start_bot: StartBot,
    urls: dict[str, str],
    way: Way,
    valkey: tuple[str, Redis],
    server: ConfiguredNats,
    tmp_path: Path,
) -> None:
    live = await start_live(sandbox_control_schema=way.schema)
    _, guild = await live.mapped()
    for where in (guild, live.guilds[1]):
        live.sim.message(where, author=live.alice, content="first")
    watching = await nats.connect(server.url.replace("//", "//test:of-the-test@"))

    async def streams() -> dict[str, StreamInfo]:
        found = await watching.jetstream().streams_info()
        return {str(info.config.name): info for info in found}

    async def routed() -> bool:
        return sum(info.state.messages for name, info in (await streams()).items() if name != "EVENTS") > 0

    await eventually(routed)
    assert (await live.get("/readyz"))[0] == 200
    assert "running, healthy" in (await live.slash("status", name="box")).text

    # The next process goes on with the session, and reads what the streams hold.
    await live.run.stop()
    live.sim.message(guild, author=live.alice, content="while it is away")
    live.run = await start_bot(live.run.settings)
    environment = {name.upper(): value for name, value in urls.items()} | {
        "SANDBOX_CONTROL_SCHEMA": way.schema,
        "SANDBOX_ISOLATION": "convention",
        "DISCORD_API_URL": live.sim.api_url,
        "DISCORD_TOKEN": live.sim.token,
        "DISCORD_DEV_GUILD_IDS": str(live.dev.id),
    }
    async with program("sandbox_bot", "doctor", directory=tmp_path, **environment) as looking:
        assert await looking.exit_code() == 0, looking.output
        assert looking.output.endswith("\n\nAll is well.\n")

    question = await live.slash("destroy", name="box")
    await live.sim.click(question, live.alice, label=question.buttons[0]["label"])
    core = live.run.bot.sandbox_core

    async def gone() -> bool:
        return await core.manager.list() == [] and (await streams()).keys() == {"EVENTS"}

    await eventually(gone)
    told = f"uses up to {core.pool.get_max_size() + 1} connections"
    assert told in (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    report, orphans = await core.cleanup.run()
    assert not report.failed
    assert not orphans.removed
    await live.run.stop()
    await watching.close()

    admin = valkey[1]
    assert [entry["object"] for entry in await admin.acl_log() if entry["username"] == BOT] == []
    assert "Violation" not in (tmp_path / "nats.log").read_text()
    used = {name.removeprefix("cmdstat_") for name in await admin.info("commandstats")}
    assert set(COMMANDS) - {"info"} <= used, "a right that nothing needs"


async def test_create_in_public_takes_a_grant_of_its_own(servers: EmbeddedServers) -> None:
    await revive(servers.postgres)
    admin_url = urlsplit(servers.postgres.admin_url)
    host = admin_url.netloc.rsplit("@", 1)[1]
    admin = await asyncpg.connect(servers.postgres.admin_url)
    try:
        await admin.execute("CREATE DATABASE shop")
        for statement in _statements(_blocks("sql")[BESIDE]):
            await admin.execute(statement)
        there = await asyncpg.connect(urlunsplit(admin_url._replace(path="/shop")))
        for statement in _statements(_blocks("sql")[IN_PUBLIC]):
            await there.execute(statement)
        await there.close()
        await migrate(f"postgresql://{BOT}:{PASSWORD}@{host}/shop")
    finally:
        await admin.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        await admin.execute(f"DROP ROLE IF EXISTS {BOT}")
        await admin.close()


def test_the_page_gives_redis_what_doctor_asks_for() -> None:
    words = _blocks("redis")[0].text.splitlines()[0].split()
    assert {word[1:] for word in words if word.startswith("+")} == set(COMMANDS)
    assert [word for word in words if word.startswith("~")] == [f"~{KEYS}"]
