"""`sandboxctl events emit`: events that are made, from a shell."""

from __future__ import annotations

import json
from typing import Any

import nats
import typer
from typer.testing import CliRunner

from discord_sim import DiscordSim
from sandbox_bot.cli._default_command import DefaultsToList
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.context import SandboxContext
from tests.streams import stream_of

from .conftest import ALICE, BOB, GUILD, NOBODY_LISTENS, Shell
from .schemas import check

OTHER = "100000000000000002"


async def _made(shell: Shell, *words: str) -> list[dict[str, Any]]:
    answer = (await shell.ok("events", "emit", *words, "--json")).json
    check("events emit", answer)
    emitted: list[dict[str, Any]] = answer["emitted"]
    return emitted


async def _stored(
    servers: EmbeddedServers, sandbox_id: str, number: str
) -> tuple[dict[str, Any], dict[str, str]]:
    client = await nats.connect(servers.nats_url)
    message = await client.jetstream().get_msg(stream_of(sandbox_id), int(number))
    await client.close()
    assert message.data is not None
    return json.loads(message.data), message.headers or {}


async def test_an_event_is_made_and_reaches_the_worker(shell: Shell, servers: EmbeddedServers) -> None:
    async with DiscordSim() as sim:
        guild = sim.add_guild("real", id=int(GUILD))
        talking = shell.having(DISCORD_TOKEN=sim.token, DISCORD_API_URL=sim.api_url)
        await talking.ok("create", "emits", "--owner", ALICE)
        await talking.ok("register-guild", "emits", GUILD, "--yes")
        variables = (await talking.ok("connect", "emits", "--json")).json
        sandbox_id = variables["SANDBOX_ID"]

        (one,) = await _made(
            talking, "emits", "MESSAGE_CREATE", "--set", "d.content=hello", "--set", "d.flags=4096"
        )
        assert (one["event"], one["guild_id"]) == ("MESSAGE_CREATE", GUILD)
        frame, headers = await _stored(servers, sandbox_id, one["id"])
        assert (frame["t"], frame["s"], frame["op"]) == ("MESSAGE_CREATE", 1, 0)
        assert (frame["d"]["content"], frame["d"]["flags"]) == ("hello", 4096)
        assert frame["d"]["channel_id"] == str(guild.default_channel.id)
        assert frame["d"]["author"]["id"] == str(guild.owner.id)
        assert headers["Nats-Msg-Id"] == one["message_id"]
        assert headers["Sandbox-Origin"] == "emitted"
        assert headers["Discord-Guild-Id"] == GUILD

        said = (await talking.ok("events", "emit", "emits", "TYPING_START", "--count", "3")).out
        assert said == "Emitted TYPING_START into emits: 3 events, 2 to 4.\n"
        refused = await talking("events", "emit", "emits", "MESSAGE_CREATE", "--channel", OTHER)
        assert (refused.code, refused.out) == (1, "")
        assert "SANDBOX_007: The channel" in refused.err

    env = {name: shell.env[name] for name in ("DATABASE_URL", "REDIS_URL", "NATS_URL")}
    async with SandboxContext.from_env(env | variables) as context:
        async for event in context.events("MESSAGE_CREATE"):
            assert event.data["content"] == "hello"
            break

    # Discord is away: what it would have said is invented.
    without = (
        await talking.ok("events", "emit", "emits", "MESSAGE_CREATE", "--channel", OTHER, "--json")
    ).json
    check("events emit", without)
    assert without["invented"].startswith("SANDBOX_012: Discord is unavailable")
    frame, _ = await _stored(servers, sandbox_id, without["emitted"][0]["id"])
    assert (frame["d"]["guild_id"], frame["d"]["channel_id"]) == (GUILD, OTHER)
    said = (await shell.ok("events", "emit", "emits", "MESSAGE_CREATE")).out
    assert said.splitlines()[1] == "Its channels and people are invented. DISCORD_TOKEN is not set."
    await shell.ok("destroy", "emits", "--yes")


async def test_a_file_is_sent_as_it_is(shell: Shell, servers: EmbeddedServers) -> None:
    await shell.ok("create", "filed", "--owner", ALICE)
    await shell.ok("register-guild", "filed", OTHER, "--unchecked", "--yes")
    sandbox_id = (await shell.ok("connect", "filed", "--json")).json["SANDBOX_ID"]
    own = {"guild_id": OTHER, "channel_id": "1", "user_id": "2", "timestamp": 3, "more": "${now}"}
    (shell.home / "frame.json").write_text(json.dumps({"t": "TYPING_START", "s": 9, "op": 0, "d": own}))
    (shell.home / "d.json").write_text(json.dumps(own))
    for name in ("frame.json", "d.json"):
        (made,) = await _made(shell, "filed", "TYPING_START", "--file", name)
        assert (await _stored(servers, sandbox_id, made["id"]))[0]["d"] == own
    script = "sandboxctl events emit filed TYPING_START --file - --set d.timestamp=4 --json < d.json"
    (made,) = (await shell.script(script)).json["emitted"]
    assert (await _stored(servers, sandbox_id, made["id"]))[0]["d"] == own | {"timestamp": 4}
    await shell.ok("destroy", "filed", "--yes")


async def test_the_types_are_listed_without_any_server(shell: Shell) -> None:
    alone = shell.having(DATABASE_URL=None, REDIS_URL=None, NATS_URL=None)
    answer = (await alone.ok("events", "emit", "--list", "--json")).json
    check("events emit --list", answer)
    assert len(answer["types"]) == 79
    assert [each["event"] for each in answer["types"] if not each["emittable"]] == ["READY", "RESUMED"]
    lines = (await alone.ok("events", "emit", "--list")).out.splitlines()
    assert lines[0].split() == ["TYPE", "WHAT", "HAPPENS"]
    assert len(lines) == 80


async def test_how_it_ends_otherwise(shell: Shell) -> None:
    await shell.ok("create", "unlucky", "--owner", ALICE)
    await shell.ok("create", "guildless", "--owner", ALICE)
    await shell.ok("register-guild", "unlucky", "100000000000000003", "--unchecked", "--yes")
    (shell.home / "list.json").write_text("[]")
    for words, code, text in (
        ((), 2, "Say which"),
        (("unlucky",), 2, "Say which"),
        (("unlucky", "MESSAGE_CRATE"), 1, "Did you mean MESSAGE_CREATE"),
        (("unlucky", "READY"), 1, "SANDBOX_015: The event type READY"),
        (("unlucky", "MESSAGE_CREATE", "--set", "content=x"), 1, "SANDBOX_015: The change content=x"),
        (("unlucky", "MESSAGE_CREATE", "--set", "d.type=x"), 1, "SANDBOX_015: The value x for d.type"),
        (("unlucky", "MESSAGE_CREATE", "--set", "d.guild_id=" + OTHER), 1, "SANDBOX_011"),
        (("unlucky", "MESSAGE_CREATE", "--guild", OTHER), 1, f"register-guild unlucky {OTHER}` registers it"),
        (("unlucky", "MESSAGE_CREATE", "--guild", "x"), 1, "SANDBOX_007"),
        (("unlucky", "MESSAGE_CREATE", "--file", "none.json"), 2, "none.json can't be read"),
        (("unlucky", "MESSAGE_CREATE", "--file", "."), 2, "can't be read"),
        (("unlucky", "MESSAGE_CREATE", "--file", "list.json"), 1, "SANDBOX_015: The file"),
        (("unlucky", "MESSAGE_CREATE", "--file", "list.json", "--guild", OTHER), 2, "--file"),
        (("unlucky", "MESSAGE_CREATE", "--count", "1001"), 2, "--count"),
        (("unlucky", "MESSAGE_CREATE", "--owner", BOB), 1, "SANDBOX_010: You may not make events in"),
        (("guildless", "MESSAGE_CREATE"), 1, "no server is registered with it"),
        (("nobody", "MESSAGE_CREATE"), 1, "SANDBOX_004"),
    ):
        ended = await shell("events", "emit", *words)
        assert (ended.code, ended.out) == (code, ""), (words, ended)
        assert text in ended.err, (words, ended.err)
    away = shell.having(NATS_URL=f"nats://{NOBODY_LISTENS}")
    ended = await away("events", "emit", "unlucky", "MESSAGE_CREATE", "--json")
    assert (ended.code, ended.out) == (3, "")
    assert "SANDBOX_012" in ended.err
    for name in ("unlucky", "guildless"):
        await shell.ok("destroy", name, "--yes")


async def test_a_lost_stream_is_named(shell: Shell, servers: EmbeddedServers) -> None:
    await shell.ok("create", "lost", "--owner", ALICE)
    await shell.ok("register-guild", "lost", "100000000000000004", "--unchecked", "--yes")
    sandbox_id = (await shell.ok("connect", "lost", "--json")).json["SANDBOX_ID"]
    client = await nats.connect(servers.nats_url)
    await client.jetstream().delete_stream(stream_of(sandbox_id))
    await client.close()
    ended = await shell("events", "emit", "lost", "MESSAGE_CREATE")
    assert ended.code == 3
    assert "the sandbox's stream is missing" in ended.err
    await shell.ok("destroy", "lost", "--yes")


def test_a_first_word_that_is_no_command_is_a_sandbox() -> None:
    app = typer.Typer(cls=DefaultsToList)

    @app.command("list")
    def list_(name: str, follow: bool = False) -> None:
        typer.echo(f"list {name} {follow}")

    @app.command("emit")
    def emit(name: str, event_type: str) -> None:
        typer.echo(f"emit {name} {event_type}")

    runner = CliRunner()
    for words, said in (
        ("mine", "list mine False"),
        ("mine --follow", "list mine True"),
        ("--follow mine", "list mine True"),
        ("list mine", "list mine False"),
        # A sandbox may have a command's name.
        ("list emit", "list emit False"),
        ("list list", "list list False"),
        ("emit mine MESSAGE_CREATE", "emit mine MESSAGE_CREATE"),
        ("emit emit MESSAGE_CREATE", "emit emit MESSAGE_CREATE"),
    ):
        result = runner.invoke(app, words.split())
        assert (result.exit_code, result.output) == (0, said + "\n"), words
    assert "Commands" in runner.invoke(app, ["--help"]).output
