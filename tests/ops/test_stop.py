"""The end of the bot while servers hang: it comes, and its log says what was left."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from discord_sim import DiscordSim
from sandbox_bot import runner
from sandbox_bot.client import SandboxBot
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.shutdown import ShutdownBudget
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import program
from tests.embedded.hanging import frozen

_GUARD = 60.0
_STORED = "sandbox_events_routed_total"
_ROOT = Path(__file__).resolve().parents[2]


class HangingBot:
    """Stands for a bot of which nothing ends, not even when it is cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.over = asyncio.Event()
        self.has_gateway = True
        self.gateway = SimpleNamespace(stop=self._step("stop"), leave=self._step("leave"))
        self.sandbox_core = SimpleNamespace(router=SimpleNamespace(idle=self._step("drain"), pending=3))
        self.sessions = SimpleNamespace(close=self._step("save"))
        self.close = self._step("close")
        self.http = SimpleNamespace(close=self._step("http"))

    def _step(self, name: str) -> Any:
        async def step() -> None:
            self.begun.append(name)
            while not self.over.is_set():
                try:
                    await self.over.wait()
                except asyncio.CancelledError:
                    continue

        return step


async def test_an_end_in_which_everything_hangs_goes_through_every_step_and_ends() -> None:
    bot, closing = HangingBot(), ShutdownBudget(0.05)
    async with asyncio.timeout(_GUARD):
        await runner.end(cast("SandboxBot", bot), closing)
        assert bot.begun == ["stop", "drain", "save", "leave", "close", "http"]
        assert closing.left == 0
        bot.over.set()
        await closing.over()


def test_the_limit_leaves_the_process_time_to_end_within_ten_seconds() -> None:
    assert runner.END_WITHIN <= 9


@pytest.mark.parametrize(
    "names", [("postgres", "nats"), ("postgres", "valkey"), ("postgres", "valkey", "nats")]
)
async def test_it_stops_while_servers_hang_and_says_what_was_left(
    sim: DiscordSim, urls: dict[str, str], servers: EmbeddedServers, tmp_path: Path, names: tuple[str, ...]
) -> None:
    dev, port = sim.add_guild("dev"), free_port()
    environment = {
        "DISCORD_TOKEN": sim.token,
        "DISCORD_API_URL": sim.api_url,
        "DISCORD_DEV_GUILD_IDS": str(dev.id),
        "OPS_PORT": str(port),
        "LOG_FORMAT": "json",
        **{name.upper(): url for name, url in urls.items()},
    }
    async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:

        async def ready() -> bool:
            assert running.running, running.errors
            answers = (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200
            return answers and await _sample(port, "sandbox_gateway_inflight") == 0

        await eventually(ready)
        stored = await _sample(port, _STORED, destination="production")
        async with frozen(*(getattr(servers, name) for name in names)):
            sim.message(dev, content="in flight")

            async def taken() -> bool:
                if "nats" in names:
                    return await _sample(port, "sandbox_gateway_inflight") > 0
                return await _sample(port, _STORED, destination="production") > stored

            await eventually(taken)
            running.signal(signal.SIGTERM)
            assert await running.exit_code() == 0
    lines = [json.loads(line) for line in running.errors.splitlines()]
    said = {line["event"]: line for line in lines}
    unacknowledged = said.get("stopped_with_events_unacknowledged", {"events": 0})["events"]
    assert (unacknowledged > 0) == ("nats" in names)
    untold = said.get("stopped_without_telling", {"left": []})["left"]
    assert "leases" in untold or "leases_not_released" in said
    if names == ("postgres", "valkey"):
        # With NATS hanging the point has not moved since it was saved.
        assert "resume points" in untold or "stopped_with_older_resume_points" in said
    # Nothing failed that nobody asked for, and nothing had to be explained by a traceback.
    assert "Traceback" not in running.errors
    assert not [line for line in lines if line["logger"] == "asyncio"]
    # Its session stays open at Discord, for the next process.
    assert sim.sessions[-1].alive


async def _sample(port: int, name: str, **labels: str) -> float:
    _, body = await get(f"http://127.0.0.1:{port}", "/metrics")
    (value,) = [
        sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return value


def test_the_runbook_names_every_line_that_tells_of_something_left() -> None:
    runbook = (_ROOT / "docs" / "runbook.md").read_text()
    section = runbook.split("### Stop everything without losing events", 1)[1].split("\n## ", 1)[0]
    code = "".join(
        path.read_text() for part in ("bot", "sandbox_core") for path in (_ROOT / part).rglob("*.py")
    )
    for line in (
        "stopped_with_events_unacknowledged",
        "stopped_with_older_resume_points",
        "stopped_without_telling",
        "leases_not_released",
        "process_not_removed",
        "shutdown_step_unfinished",
        "postgres_pool_terminated",
        "nats_close_without_flush",
    ):
        assert f"`{line}`" in section
        assert f'"{line}"' in code, line
