"""`/sandbox events` over real HTTP: live events come into the message, and Replay sends them again."""

from __future__ import annotations

import json

from sandbox_core.nats.dead_letters import ORIGIN, REPLAYED
from tests.e2e.harness import PATIENCE, Live


async def test_what_happens_in_a_server_is_seen_and_repeated(live: Live) -> None:
    sandbox_id, guild = await live.mapped()
    opened = await live.slash("events", name="box", type="MESSAGE_CREATE", follow=True)
    assert opened.ephemeral
    assert "This message is kept up to date" in opened.text
    before = opened.text
    live.sim.message(guild, content="hello from a real server")
    await opened.wait_until(lambda shown: "hello from a real server" in shown.text, timeout=PATIENCE)
    assert before != opened.text
    await live.checked()
    labels = [each["label"] for each in opened.buttons if "label" in each]
    assert labels == ["Refresh", "Replay it", "JSON", "Stop following"]
    as_json = await live.sim.click(opened, live.alice, label="JSON")
    (file,) = as_json.files
    (one,) = json.loads(file.text)
    assert (one["type"], one["guild_id"]) == ("MESSAGE_CREATE", str(guild.id))
    replayed = await live.sim.click(opened, live.alice, label="Replay it")
    assert "1 event replayed into box" in replayed.text
    core = live.run.bot.sandbox_core
    sandbox = await core.manager.get("box")
    place = await core.places.of(sandbox.id, credentials=sandbox.generation)
    last = await place.js.get_last_msg(place.stream, f"sandbox.{sandbox_id}.events.MESSAGE_CREATE")
    assert (last.headers or {})[ORIGIN] == REPLAYED
    assert json.loads(last.data or b"")["d"]["content"] == "hello from a real server"
    stopped = await live.sim.click(opened, live.alice, label="Stop following")
    # The event that was repeated may come into the message in between.
    await stopped.wait_until(lambda shown: "kept up to date no more" in shown.text, timeout=PATIENCE)
