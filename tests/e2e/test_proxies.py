"""A proxy stands before Discord: it may answer in its place, or lose Discord's answer."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from discord_sim import DiscordSim
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
    sandbox_id = await live.create("mine")
    guild = str(live.guilds[0].id)
    for status in (403, 404, 429, 503):
        # The page stands where the server is looked up, and not where the reply goes.
        live.sim.show_page(status, path=r"/guilds/\d+$")
        refused = await live.slash("register-guild", name="mine", guild=guild)
        assert "SANDBOX_012" in refused.text, status
        assert "Discord" in refused.text
    live.sim.show_page(None)
    await live.register(live.guilds[0], sandbox_id, "mine")


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


@pytest.mark.parametrize("answers", [False, True], ids=["which died", "which answers"])
async def test_a_command_that_another_process_has_acknowledged_is_not_done_again(
    live: Live, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Discord delivers it once more to the process that resumes a killed one's session."""
    monkeypatch.setattr("sandbox_cogs._acknowledge._ANSWERED_WITHIN", 0.5)
    backend = live.sim.rest

    async def acknowledged_elsewhere(record: RecordedRequest) -> None:
        if record.path.endswith("/callback"):
            backend.delay = None
            (interaction,) = live.sim.desk.by_id.values()
            callback = f"{live.sim.api_url}/interactions/{interaction.id}/{interaction.token}/callback"
            reply = f"{live.sim.api_url}/webhooks/{live.sim.application_id}/{interaction.token}/messages"
            async with aiohttp.ClientSession() as another:
                await another.post(callback, json={"type": 5, "data": {"flags": 64}})
                if answers:
                    await another.patch(f"{reply}/@original", json={"content": "Done elsewhere"})

    backend.delay = acknowledged_elsewhere
    with capture_logs() as logs:
        shown = await live.slash("create", name="mine")
        if not answers:
            await shown.wait_until(lambda result: "The bot was stopped" in result.text)
        else:
            looked = [("GET", 200)]
            await eventually(
                lambda: (
                    [(r.method, r.status) for r in live.sim.requests if r.path.endswith("@original")][-1:]
                    == looked
                )
            )
            assert "Done elsewhere" in shown.text
    assert {line["log_level"] for line in logs} <= {"debug", "info"}
    assert any(line["event"] == "interaction_taken_elsewhere" for line in logs)
    assert await live.run.bot.sandbox_core.manager.list() == []
