"""People and servers whose names no store takes as they are: half of a surrogate pair, and NUL."""

from __future__ import annotations

import json

import pytest

from tests.e2e.harness import Live
from tests.e2e.programs import program

ODD, SHOWN = "Zo\ud83d\0ë", "Zo\ufffd\ufffdë"


async def test_a_whole_life_under_odd_names(live: Live, tmp_path_factory: pytest.TempPathFactory) -> None:
    live.alice.name = live.alice.global_name = ODD
    guild = live.guilds[0]
    guild.name = ODD
    sandbox_id = await live.create("box")
    await live.register(guild, sandbox_id)
    core = live.run.bot.sandbox_core
    assert (await core.manager.get("box")).owner_name == SHOWN
    cached = live.run.bot.get_guild(guild.id)
    assert cached is not None
    cached.name = ODD
    for command, options in (
        ("list", {}),
        ("status", {"name": "box"}),
        ("extend", {"name": "box", "duration": "1h"}),
    ):
        answer = await live.slash(command, **options)
        assert "wrong inside" not in answer.text, command
        assert not set(ODD[2:4]) & set(answer.text)
    answer = await live.slash("status", name="box")
    assert SHOWN in answer.text
    (frame,) = live.sim.message(guild, content=ODD)
    stored = await live.checked()
    assert any(event.payload == frame.raw for event in stored if event.stream == "SANDBOX")
    settings = live.run.settings
    servers = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "NATS_URL": settings.nats_url.get_secret_value(),
    }
    directory = tmp_path_factory.mktemp("shell")
    for arguments in (["list", "--json"], ["status", "box", "--json"], ["list"], ["audit", "box"]):
        async with program("sandbox_bot", *arguments, directory=directory, **servers) as asked:
            assert await asked.exit_code() == 0, asked.errors
            said = asked.output
        if arguments[-1] == "--json":
            assert SHOWN in json.dumps(json.loads(said), ensure_ascii=False)
        if arguments == ["list"]:
            assert SHOWN in said
