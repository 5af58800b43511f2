"""What a whole run of the bot writes: tied together by correlation ids, without a secret."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from discord_sim import DiscordSim, Frame, InteractionResult, SimGuild, SimUser
from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.logs import Redaction, secrets_of
from sandbox_core.settings import Settings
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import Program, program

_TOKEN = "MTA5NzM4NDU2.Gx-secret.token_of-the-bot"
_NATS_PASSWORD = "nats-s3cret-password"


class Run:
    """The bot as a program, a person at the simulator, and what was said."""

    def __init__(
        self, running: Program, sim: DiscordSim, alice: SimUser, guild: SimGuild, quiet: SimGuild
    ) -> None:
        self.running = running
        self.sim = sim
        self.alice = alice
        self.guild = guild
        self.quiet = quiet
        self.answers: list[str] = []

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every complete line of the log."""
        whole, _, _ = self.running.errors.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def of(self, result: InteractionResult) -> list[dict[str, Any]]:
        """The lines that this interaction caused."""
        return [line for line in self.lines if line.get("correlation_id") == str(result.interaction.id)]

    async def slash(self, command: str, **options: Any) -> InteractionResult:
        """Alice's command."""
        result = await self.sim.slash(
            self.alice, self.guild.default_channel, f"sandbox {command}", timeout=60, **options
        )
        self.answers.append(result.text)
        return result

    async def register(self) -> InteractionResult:
        """The quiet server is registered with `box`; while Redis is away, its last day is asked about."""
        done = await self.slash("register-guild", name="box", guild=str(self.quiet.id))
        if any(button["label"] == "Register it" for button in done.buttons):
            done = await self.sim.click(done, self.alice, label="Register it")
        await done.wait_until(lambda r: "Server registered" in r.text, timeout=60)
        return done


StartRun = Callable[..., Any]


def interactions(sim: DiscordSim) -> list[Frame]:
    """The frames that brought the bot an interaction, each with a token of its own."""
    return [frame for frame in sim.sent if frame.type == "INTERACTION_CREATE"]


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(record=True, token=_TOKEN) as running:
        yield running


@pytest.fixture
def start(sim: DiscordSim, urls: dict[str, str], tmp_path: Path) -> StartRun:
    """Starts the bot as a program, with passwords wherever an address can have one."""
    alice = sim.add_user("alice")
    guild, quiet = (sim.add_guild(name, owner=alice) for name in ("dev", "quiet"))
    nats = urlsplit(urls["nats_url"])
    port = free_port()

    @asynccontextmanager
    async def run(**more: str) -> AsyncIterator[Run]:
        environment = {
            "DISCORD_TOKEN": _TOKEN,
            "DISCORD_API_URL": sim.api_url,
            "DISCORD_DEV_GUILD_IDS": str(guild.id),
            "DISCORD_OWNER_IDS": str(alice.id),
            "OPS_PORT": str(port),
            "SANDBOX_ISOLATION": "convention",
            "DATABASE_URL": urls["database_url"],
            "REDIS_URL": urls["redis_url"],
            "NATS_URL": nats._replace(netloc=f"bot:{_NATS_PASSWORD}@{nats.netloc}").geturl(),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "DEBUG",
            **more,
        }
        async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:

            async def ready() -> bool:
                assert running.running, running.errors
                answers = (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200
                # A process that holds no shard yet is ready to take one.
                return answers and any(session.connected for session in sim.sessions)

            await eventually(ready)
            yield Run(running, sim, alice, guild, quiet)
            running.signal(signal.SIGTERM)
            assert await running.exit_code() == 0

    return run


async def test_an_operation_is_one_line_with_all_its_fields(start: StartRun) -> None:
    async with start(LOG_LEVEL="INFO") as run:
        created = await run.slash("create", name="box")
        refused = await run.slash("create", name="box")
        registered = await run.register()

        (line,) = [each for each in run.of(created) if each["event"] == "operation_done"]
        assert line["operation"] == "create"
        assert re.fullmatch(r"[0-9a-f-]{36}", line["sandbox_id"])
        assert (line["sandbox_name"], line["owner"], line["actor"]) == ("box", *[str(run.alice.id)] * 2)
        assert line["duration_ms"] > 0
        assert line["user_id"] == str(run.alice.id)

        events = [each["event"] for each in run.of(refused)]
        assert events == ["operation_refused", "interaction_refused"]
        assert {each["error_code"] for each in run.of(refused)} == {"SANDBOX_001"}

        (line,) = [each for each in run.of(registered) if each["event"] == "operation_done"]
        assert (line["operation"], line["guild_id"]) == ("register_guild", str(run.quiet.id))
        # Nothing of the event path at this level, and no line of one command under another's id.
        assert not [each for each in run.lines if each["event"].startswith("event_")]
        assert {each["logger"] for each in run.of(created)} == {"sandbox.operations"}


async def test_what_a_command_causes_later_carries_its_id(start: StartRun, servers: EmbeddedServers) -> None:
    async with start() as run:
        await run.slash("create", name="box")
        await servers.valkey.kill()
        registered = await run.register()

        def late() -> list[dict[str, Any]]:
            return [each for each in run.of(registered) if each["event"] == "route_cache_write_delayed"]

        # The answer may be read before the log is, and Redis be back before the cache was tried.
        await eventually(lambda: bool(late()))
        await servers.valkey.start()
        assert late()[0]["operation"] == "register_guild"


async def test_every_routing_decision_can_be_read_at_debug_level(start: StartRun) -> None:
    async with start() as run:
        run.sim.message(run.guild, content="hello")
        frame = next(each for each in run.sim.sent if each.type == "MESSAGE_CREATE")
        identity = f"{frame.session_id}:0:{frame.seq}"

        def lines() -> list[dict[str, Any]]:
            return [each for each in run.lines if each.get("message_id") == identity]

        await eventually(lambda: len(lines()) == 2)
        decided, acknowledged = lines()
        assert (decided["event"], acknowledged["event"]) == ("event_decided", "event_acknowledged")
        assert (decided["subject"], decided["guild_id"]) == ("events.MESSAGE_CREATE", str(run.guild.id))
        assert acknowledged["duration_ms"] > 0


@pytest.mark.parametrize("form", ["json", "console"])
async def test_no_secret_is_printed_or_kept(
    start: StartRun, sim: DiscordSim, servers: EmbeddedServers, urls: dict[str, str], form: str
) -> None:
    """Everything happens in one run: work, refusals, outages of each server, a lost connection."""
    async with start(LOG_FORMAT=form, LOG_LEVEL="DEBUG") as run:
        await run.slash("create", name="box")
        await run.slash("create", name="box")
        await run.slash("connect", name="box")
        await run.slash("status", name="box")
        for server in (servers.valkey, servers.nats, servers.postgres):
            await server.kill()
            await run.slash("create", name="other")
            await run.slash("status", name="box")
            await server.start()
        await sim.drop()
        direct = await sim.dm(run.alice, "status", timeout=60)
        await eventually(lambda: "nats_reconnected" in run.running.errors)
        printed = run.running.output + run.running.errors
        answers = [*run.answers, *(message.content for message in direct)]
        tokens = {str(json.loads(frame.raw)["d"]["token"]) for frame in interactions(sim)}
    assert len(answers) == 11
    assert len(tokens) >= len(run.answers)
    connection = await asyncpg.connect(urls["database_url"])
    try:
        kept = str([tuple(row) for row in await connection.fetch("SELECT * FROM sandbox_audit_log")])
    finally:
        await connection.close()
    assert "sandbox_created" in kept
    password = urlsplit(urls["database_url"]).password
    assert password
    for secret in (_TOKEN, password, _NATS_PASSWORD, urls["database_url"], *tokens):
        for where in (printed, kept, *answers):
            assert secret not in where
    assert "[secret]" not in printed, "nothing had to be taken out: nothing was put in"


def test_what_a_library_repeats_is_taken_out() -> None:
    settings = Settings(
        discord_token='a"quoted\\token',
        database_url="postgresql://bot:p%40ssw0rd@db:5432/bot",
        redis_url="redis://:hunter2@cache:6379/0",
        nats_url="nats://a:b-secret@one:4222, nats://two:4222",
        _env_file=None,
    )
    redact = Redaction(secrets_of(settings))
    for line in (
        'login with a"quoted\\token failed',
        json.dumps({"event": 'login with a"quoted\\token failed'}),
        "postgresql://bot:p%40ssw0rd@db:5432/bot does not answer",
        "password p@ssw0rd was refused",
        "AUTH hunter2",
        "nats://a:b-secret@one:4222",
    ):
        assert "[secret]" in redact(None, "", line)
        for secret in ("quoted", "ssw0rd", "hunter2", "b-secret"):
            assert secret not in redact(None, "", line)
    assert redact(None, "", "redis is away, two:4222 answers") == "redis is away, two:4222 answers"
    assert "ssw0rd" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "address", "secrets"),
    [
        ("nats_url", "nats://t0ken-of-nats@one:4222", ["t0ken-of-nats"]),
        ("nats_url", "nats://one:4222, nats://an%20other@two:4222", ["an%20other", "an other"]),
        ("database_url", "postgresql://bot@db/bot?password=in%2Bquery&ssl=on", ["in%2Bquery", "in+query"]),
        ("database_url", "postgresql://db/bot?user=bot&sslpassword=of-the-key", ["of-the-key"]),
        ("database_url", "postgresql://bot:com,ma-pass@one,two/bot", ["com,ma-pass"]),
        ("redis_url", "redis://cache:6379/0?password=in-the-query", ["in-the-query"]),
        ("redis_url", "rediss://cache:6379/0?username=bot&ssl_password=of+the+key", ["of the key"]),
    ],
)
def test_every_form_of_a_secret_in_an_address_is_taken_out(
    name: str, address: str, secrets: list[str]
) -> None:
    addresses = {
        "database_url": "postgresql://db/bot",
        "redis_url": "redis://cache",
        "nats_url": "nats://one",
    }
    settings = Settings(discord_token="a-token", _env_file=None, **{**addresses, name: address})  # type: ignore[arg-type]
    redact = Redaction(secrets_of(settings))
    for secret in secrets:
        assert redact(None, "", f"it said: {secret}.") == "it said: [secret]."
    (held,) = [part.strip() for part in address.split(", ") if "@" in part or "?" in part]
    assert redact(None, "", f"{held} does not answer") == "[secret] does not answer"


def test_a_short_secret_is_taken_out_with_its_address_only() -> None:
    settings = Settings(
        database_url="postgresql://sandbox@db/bot",
        redis_url="redis://:lost@cache:6379/0",
        nats_url="nats://one@nats:4222",
        _env_file=None,
    )
    redact = Redaction(secrets_of(settings))
    line = "redis://:lost@cache:6379/0 and nats://one@nats:4222 are lost"
    assert redact(None, "", line) == "[secret] and [secret] are lost"
    # PostgreSQL's user names are no secrets, and the bot's own are ordinary words.
    assert redact(None, "", "the sandbox of postgresql://sandbox@db/bot is lost") == (
        "the sandbox of postgresql://sandbox@db/bot is lost"
    )


@pytest.mark.parametrize("password", ["Qz7@Wx8", "Qz7%40Wx8", "Qz7/Wx8?#", "Qz7 Wx8:é"])
async def test_a_refused_login_and_a_misspelt_setting_are_lines_without_a_piece_of_the_password(
    urls: dict[str, str], tmp_path: Path, password: str
) -> None:
    encoded = quote(password, safe="")
    environment = {
        name.upper(): url._replace(netloc=f"nobody:{encoded}@{url.netloc.rpartition('@')[2]}").geturl()
        for name, url in ((name, urlsplit(text)) for name, text in urls.items())
    }
    environment |= {
        "DISCORD_TOKEN": _TOKEN,
        "DISCORD_DEV_GUILD_IDS": "100000000000000001",
        "DISCORD_API_URL": f"http://127.0.0.1:{free_port()}/api/v10",
        "OPS_PORT": "0",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        "NATS_EVENT_STREAM": password,
    }
    async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:
        await eventually(
            lambda: all(part in running.errors for part in ("nobody: the password", "nobody: the user's"))
        )
        running.signal(signal.SIGTERM)
        assert await running.exit_code() == 0
    lines = [json.loads(line) for line in running.errors.splitlines()]
    (misspelt,) = [line for line in lines if line["event"] == "setting_misspelt"]
    told = {name: misspelt[name] for name in ("level", "variable", "nearest", "place")}
    assert told == {
        "level": "warning",
        "variable": "NATS_EVENT_STREAM",
        "nearest": "NATS_EVENTS_STREAM",
        "place": "the environment",
    }
    refused = [line["reason"] for line in lines if "login refused" in line.get("reason", "")]
    for name in ("database_url", "redis_url"):
        where = urlsplit(urls[name]).netloc.rpartition("@")[2]
        assert any(reason.startswith(f"login refused at {where} as nobody: ") for reason in refused), name
    for piece in (password, encoded, "Qz7", "Wx8"):
        assert piece not in running.errors + running.output
