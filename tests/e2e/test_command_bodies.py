"""Every request the commands make fits Discord's own description of its API."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest

from discord_sim import InteractionResult
from tests.e2e.harness import Live
from tests.sim import openapi

COMMANDS = "POST /applications/{application_id}/guilds/{guild_id}/commands"
CALLBACK = "POST /interactions/{interaction_id}/{interaction_token}/callback"
ORIGINAL = "PATCH /webhooks/{webhook_id}/{webhook_token}/messages/@original"


@pytest.fixture(scope="session")
def description() -> openapi.OpenApi:
    """Discord's description, or a skip that says how to get it."""
    path = openapi.spec_path()
    if path is None:
        pytest.skip("Discord's OpenAPI description is not here; name it in DISCORD_OPENAPI")
    return openapi.load(path)


async def click(live: Live, shown: InteractionResult, label: str, then: str) -> InteractionResult:
    """Alice presses a button; returns once its answer has this text."""
    result = await live.sim.click(shown, live.alice, label=label)
    await result.wait_until(lambda r: then in r.text, timeout=60)
    return result


async def test_what_the_commands_send_is_what_discord_describes(
    live: Live, description: openapi.OpenApi
) -> None:
    sim, alice, channel = live.sim, live.alice, live.dev.default_channel
    made = await live.slash("create", name="first")
    await click(live, made, "Connect", "Environment of first")
    form = await sim.click(made, alice, label="Extend")
    assert form.modal is not None
    extended = await sim.submit_modal(form, alice, {"sandbox:duration": "1h"})
    await extended.wait_until(lambda r: "Sandbox extended" in r.text, timeout=60)

    in_use = live.guilds[0]
    core = live.run.bot.sandbox_core
    for guild in live.guilds[:2]:
        sim.message(guild)
        guild_id = str(guild.id)
        await sim.wait_for(
            lambda guild_id=guild_id: core.router.activity.production_events_last_minute(guild_id) > 0,
            timeout=15,
        )
    asked = await live.slash("register-guild", guild=str(in_use.id))
    assert "went to production less than a minute ago" in asked.text
    await click(live, asked, "Register it", "Server registered")

    second = await live.slash("create", name="second", guild=str(live.guilds[1].id))
    await click(live, second, "Register it", "Server registered")
    menu = await live.slash("status")
    chosen = await sim.select(menu, alice, ["first"])
    await chosen.wait_until(lambda r: "1 of 1 server routed here" in r.text, timeout=60)
    watched = await live.slash("status", name="second", watch=True)
    await click(live, watched, "Refresh", "Sandbox second")
    await click(live, watched, "Stop watching", "Sandbox second")

    for number in range(12):
        await core.pool.execute(
            "INSERT INTO sandboxes (id, name, owner, status, schema_name, created_at, expires_at)"
            " VALUES ($1, $2, 'ci', 'destroyed', $3, now(), now() + '1 h')",
            uuid4(),
            f"old-{number}",
            f"sandbox_{number:08x}",
        )
    pages = await live.slash("list", all=True)
    await click(live, pages, "Next", "Page 2 of 2")
    await live.slash("help")
    await live.slash("unregister-guild", guild=str(in_use.id))
    refused = await live.slash("connect", name="nobodys")
    assert "SANDBOX_004" in refused.text
    await sim.autocomplete(alice, channel, "sandbox status", focused="name", value="s")
    await sim.autocomplete(alice, channel, "sandbox create", focused="guild", value="guild")
    all_of_them = await live.slash("destroy", all=True)
    await click(live, all_of_them, "Destroy all of them", "2 of 2 sandboxes destroyed")

    problems = Counter(problem for record in sim.requests for problem in description.problems(record))
    assert not problems, "\n".join(problems)
    assert {COMMANDS, CALLBACK, ORIGINAL} <= {f"{record.method} {record.route}" for record in sim.requests}
