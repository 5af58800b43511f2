"""A proxy stands before Discord: it may answer in its place, or lose Discord's answer."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from discord_sim import DiscordSim, SimTimeout
from discord_sim.rest.routing import RecordedRequest
from tests.e2e.harness import Live, eventually, free_port, get
from tests.e2e.programs import program
from tests.e2e.test_programs import discord_environment, until_ready


async def test_a_first_answer_whose_receipt_is_lost(live: Live) -> None:
    live.sim.lose_next("POST", r"/interactions/\d+/[^/]+/callback$")
    made = await live.slash("create", name="mine")
    assert "Sandbox mine is running" in made.text
    live.sim.lose_next("POST", r"/interactions/\d+/[^/]+/callback$")
    refused = await live.slash("connect", name="nobodys")
    assert "SANDBOX_004" in refused.text

    live.sim.lose_next("POST", r"/interactions/\d+/[^/]+/callback$")
    asked = await live.slash("destroy", name="mine")
    live.sim.lose_next("POST", r"/interactions/\d+/[^/]+/callback$")
    gone = await live.sim.click(asked, live.alice, label="Destroy it")
    await gone.wait_until(lambda r: "Sandbox mine is destroyed" in r.text, timeout=60)


async def test_a_page_is_not_discords_word_about_a_guild(live: Live) -> None:
    await live.slash("create", name="mine")
    guild = str(live.guilds[0].id)
    for status in (403, 404, 429, 503):
        # The page stands where the server is looked up, and not where the reply goes.
        live.sim.show_page(status, path=r"/guilds/\d+$")
        refused = await live.slash("register-guild", name="mine", guild=guild)
        assert "SANDBOX_012" in refused.text, status
        assert "Discord" in refused.text
    live.sim.show_page(None)
    assert "Server registered" in (await live.slash("register-guild", name="mine", guild=guild)).text


async def test_a_page_at_the_start_is_waited_out(
    sim: DiscordSim, urls: dict[str, str], tmp_path: Path
) -> None:
    dev, port = sim.add_guild("dev"), free_port()
    environment = discord_environment(sim, dev.id, port)
    environment |= {name.upper(): url for name, url in urls.items()}
    sim.show_page(429, retry_after="1")
    async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:
        for status in (429, 403, 401):
            sim.show_page(status)
            asked = len(sim.rest.requests)

            async def waits(status: int = status, asked: int = asked) -> bool:
                assert running.running, running.errors
                answered, body = await get(f"http://127.0.0.1:{port}", "/readyz")
                trouble = json.loads(body)["missing"].get("gateway", "") if answered == 503 else ""
                return len(sim.rest.requests) > asked and f"answered with status {status}" in trouble

            await eventually(waits)
        sim.show_page(None)
        await until_ready(running, port)
        running.signal(signal.SIGTERM)
        assert await running.exit_code() == 0
    assert "Traceback" not in running.errors


async def test_a_command_that_another_process_has_acknowledged_is_not_done_again(live: Live) -> None:
    """Discord delivers it once more to the process that resumes a killed one's session."""
    backend = live.sim.rest

    async def acknowledged_elsewhere(record: RecordedRequest) -> None:
        if record.path.endswith("/callback"):
            for interaction in backend.desk.by_id.values():
                interaction.callback_type = interaction.callback_type or 5

    backend.delay = acknowledged_elsewhere
    with capture_logs() as logs:
        with pytest.raises(SimTimeout):
            await live.slash("create", name="mine", timeout=5)
        await eventually(lambda: any(line["event"] == "interaction_not_answered" for line in logs))
    backend.delay = None
    assert await live.run.bot.sandbox_core.manager.list() == []
