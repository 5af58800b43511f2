"""The simulator as a process of its own, driven over its control endpoint."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from discord_sim import DiscordSim
from tests.sim.openapi import ROOT
from tests.sim.raw_client import RawClient


@dataclass
class Running:
    """A simulator process and how to talk to it."""

    process: asyncio.subprocess.Process
    info: dict[str, Any]
    http: aiohttp.ClientSession

    async def control(self, name: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """One control request."""
        async with self.http.post(f"{self.info['control_url']}/{name}", json=body) as answer:
            return answer.status, await answer.json()

    async def state(self) -> dict[str, Any]:
        """What the simulator sees."""
        async with self.http.get(f"{self.info['control_url']}/state") as answer:
            state: dict[str, Any] = await answer.json()
            return state


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """A process with three guilds and two users; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "discord_sim",
        "--guilds",
        "3",
        "--users",
        "alice",
        "bob",
        "--token",
        "t",
        "--print-ready-json",
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    info = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    async with aiohttp.ClientSession() as http:
        yield Running(process, info, http)
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_flood_emit_faults_and_state(running: Running) -> None:
    stub = DiscordSim("t", port=running.info["port"])
    client = await RawClient.open(running.http, stub, compress="zlib-stream")
    await client.identify("t")
    for _ in range(4):
        await client.read()
    status, report = await running.control("flood", count=30)
    assert (status, report["sent"]) == (200, 30)
    assert set(report["by_guild"]) == {g["id"] for g in running.info["guilds"]}
    for _ in range(30):
        assert (await client.read())["t"] == "MESSAGE_CREATE"
    _, emitted = await running.control("emit", type="NEW_THING", d={"guild_id": "4194304", "x": 1})
    (frame,) = emitted["frames"]
    assert (await client.raw()) == frame["raw"].encode()
    await running.control("fault", kind="reconnect")
    assert (await client.read())["op"] == 7
    state = await running.state()
    (session,) = state["sessions"]
    assert (session["sequence"], session["connected"], state["identifies"]) == (35, True, 1)
    await client.close(4000)


async def test_mistakes_are_answered(running: Running) -> None:
    assert (await running.control("fault", kind="earthquake"))[0] == 400
    status, body = await running.control("slash", user="alice", guild="guild-0", path="nope")
    assert (status, body["error"]) == (400, "SimUnknownCommand")
    assert (await running.control("emit", type="X"))[0] == 400
    assert (await running.control("nothing"))[0] == 404
    status, body = await running.control("flood", count=1)
    assert body["error"] == "SimNotConnected"


async def test_the_control_endpoint_exists_only_when_asked_for(sim: DiscordSim) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{sim.port}/_sim/state") as answer:
        assert answer.status == 404


async def test_a_taken_port_is_a_plain_sentence(sim: DiscordSim) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "discord_sim",
        "--port",
        str(sim.port),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert errors.decode().startswith("cannot listen: ")
    assert "Traceback" not in errors.decode()
