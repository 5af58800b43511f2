"""Three libraries that nobody here wrote take every fixture, without an error and without a warning."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import discord
import hikari
import pytest

from tests.compat.conftest import require
from tests.compat.libraries import LIBRARIES

from .frames import filled, scrubbed, seen_before

DISCORD_JS = next(each for each in LIBRARIES if each.name == "discord.js")

UNKNOWN_TO_DISCORD_PY = {
    *("CHANNEL_INFO", "RATE_LIMITED", "SOUNDBOARD_SOUNDS"),
    *("VOICE_CHANNEL_START_TIME_UPDATE", "VOICE_CHANNEL_STATUS_UPDATE"),
}
SILENT_IN_DISCORD_PY = {
    # About something that it has not seen made.
    *("GUILD_SCHEDULED_EVENT_UPDATE", "GUILD_SCHEDULED_EVENT_USER_ADD", "GUILD_SCHEDULED_EVENT_USER_REMOVE"),
    *("STAGE_INSTANCE_UPDATE", "STAGE_INSTANCE_DELETE"),
    # Only for itself.
    *("GUILD_MEMBERS_CHUNK", "THREAD_LIST_SYNC", "THREAD_MEMBER_UPDATE"),
    *("USER_UPDATE", "VOICE_SERVER_UPDATE"),
}
UNKNOWN_TO_HIKARI = {
    *("GUILD_SOUNDBOARD_SOUND_CREATE", "GUILD_SOUNDBOARD_SOUND_UPDATE", "GUILD_SOUNDBOARD_SOUND_DELETE"),
    *("GUILD_SOUNDBOARD_SOUNDS_UPDATE", "SOUNDBOARD_SOUNDS", "VOICE_CHANNEL_EFFECT_SEND"),
    *("SUBSCRIPTION_CREATE", "SUBSCRIPTION_UPDATE", "SUBSCRIPTION_DELETE", "THREAD_MEMBER_UPDATE"),
}
UNKNOWN_TO_DISCORD_JS = {
    *("CHANNEL_INFO", "INTEGRATION_CREATE", "INTEGRATION_UPDATE", "INTEGRATION_DELETE"),
    *("VOICE_CHANNEL_START_TIME_UPDATE", "VOICE_CHANNEL_STATUS_UPDATE"),
}

FRAMES = filled()
BOTH = {"made": FRAMES, "scrubbed": scrubbed(FRAMES)}
"""Of the invented server, and of a recording's false people."""

Frames = dict[str, dict[str, Any]]


@pytest.fixture(params=BOTH)
def frames(request: pytest.FixtureRequest) -> Frames:
    return BOTH[request.param]


@contextmanager
def warnings_of(library: str) -> Iterator[list[str]]:
    """Every line that the library logs as a warning or worse."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Kept(logging.WARNING)
    logging.getLogger(library).addHandler(handler)
    yield lines
    logging.getLogger(library).removeHandler(handler)


@pytest.mark.parametrize("name", FRAMES)
async def test_discord_py_takes_it(name: str, frames: Frames) -> None:
    client = discord.Client(intents=discord.Intents.all())
    await client._async_setup_hook()
    state = client._connection
    heard: list[str] = []
    state.dispatch = lambda event, *_: heard.append(event)
    with warnings_of("discord") as warnings:
        for earlier, data in seen_before(frames):
            state.parsers[earlier](copy.deepcopy(data))
        await _settled()
        heard.clear()
        if name in UNKNOWN_TO_DISCORD_PY:
            assert name not in state.parsers
        else:
            state.parsers[name](copy.deepcopy(frames[name]))
            await _settled()
    task = getattr(state, "_ready_task", None)
    if task is not None:
        task.cancel()
    assert warnings == []
    silent = SILENT_IN_DISCORD_PY | UNKNOWN_TO_DISCORD_PY
    assert (heard == []) == (name in silent), heard


async def _settled() -> None:
    """Let the tasks go on to which a parser leaves the rest: some steps, more or fewer by the Python."""
    for _ in range(20):
        await asyncio.sleep(0)


class _Shard:
    """Stands for the connection that the frames come from: hikari asks it who the bot is."""

    id = 0
    shard_count = 1
    intents = hikari.Intents.ALL
    is_alive = True

    def __init__(self, frames: Frames) -> None:
        self._user_id = hikari.Snowflake(frames["READY"]["user"]["id"])

    def get_user_id(self) -> hikari.Snowflake:
        return self._user_id


@pytest.mark.parametrize("name", FRAMES)
async def test_hikari_takes_it(name: str, frames: Frames) -> None:
    bot = hikari.GatewayBot(
        "MTIxMzgwMDAwMDAwMDAwMDAwMg.made.up",
        banner=None,
        logs=None,
        intents=hikari.Intents.ALL,
        suppress_optimization_warning=True,
    )
    heard: list[hikari.Event] = []

    async def hear(event: hikari.Event) -> None:
        heard.append(event)

    bot.event_manager.subscribe(hikari.Event, hear)
    failed: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failed.append(context))
    shard = cast("Any", _Shard(frames))
    try:
        with warnings_of("hikari") as warnings:
            for earlier, data in (*seen_before(frames), (name, frames[name])):
                heard.clear()
                try:
                    bot.event_manager.consume_raw_event(earlier, shard, copy.deepcopy(data))
                except LookupError:
                    assert earlier in UNKNOWN_TO_HIKARI
                await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()} - _RUNNING))
    finally:
        loop.set_exception_handler(None)
    assert (failed, warnings) == ([], [])
    own = [each for each in heard if not isinstance(each, hikari.ShardPayloadEvent)]
    # GUILD_INTEGRATIONS_UPDATE says nothing that INTEGRATION_… does not.
    silent = name in UNKNOWN_TO_HIKARI or name == "GUILD_INTEGRATIONS_UPDATE"
    assert len(own) == (0 if silent else 1)
    if (guild_id := getattr(own[0] if own else None, "guild_id", None)) is not None:
        assert str(guild_id) == frames["GUILD_CREATE"]["id"]


_RUNNING: set[asyncio.Task[Any]] = set()


@pytest.fixture(autouse=True)
async def _note_running() -> None:
    """The suite's own tasks, which no test waits for."""
    _RUNNING.clear()
    _RUNNING.update(asyncio.all_tasks())


def test_discord_js_takes_every_one(frames: Frames) -> None:
    node, *_ = require(DISCORD_JS)
    given = json.dumps({"before": seen_before(frames), "frames": frames})
    ended = subprocess.run(
        [node, str(Path(__file__).with_name("parse_fixtures.cjs"))],
        input=given.encode(),
        capture_output=True,
        env={**DISCORD_JS.variables, "PATH": os.environ["PATH"]},
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
    said: dict[str, list[str]] = json.loads(ended.stdout)
    assert said.keys() == frames.keys()
    wrong = {name: lines for name, lines in said.items() if any(": " in line for line in lines)}
    assert wrong == {}
    assert {name for name, lines in said.items() if lines == ["unknown"]} == UNKNOWN_TO_DISCORD_JS
    assert "messageCreate" in said["MESSAGE_CREATE"]
    assert "interactionCreate" in said["INTERACTION_CREATE"]
