"""Discord did what it was asked for, and its answer is lost on its way: it is not done a second time."""

from __future__ import annotations

import pytest

from discord_sim import SimMessage
from discord_sim.rest.routing import RecordedRequest
from sandbox_core.models import Actor
from tests.e2e.conftest import StartBot
from tests.e2e.harness import Live, eventually

MESSAGES = r"/channels/\d+/messages$"
CALLBACK = r"/interactions/\d+/[^/]+/callback$"
ORIGINAL = r"/webhooks/\d+/[^/]+/messages/@original$"

lost = pytest.mark.parametrize("drop", [False, True], ids=["status 502", "connection dropped"])


def written(live: Live, user: object) -> list[SimMessage]:
    """The bot's direct messages to this user."""
    channel = live.sim.world.dm_channel(user)  # type: ignore[arg-type]
    return [m for m in live.sim.world.messages.get(channel.id, {}).values() if m.author is live.sim.bot_user]


def sent(live: Live) -> list[RecordedRequest]:
    """What Discord was asked to write, and has done: before, a request has no status."""
    asked = [r for r in live.sim.requests if r.method == "POST" and r.path.endswith("/messages")]
    return [r for r in asked if r.status]


async def due(live: Live, name: str) -> None:
    """A sandbox that ends in nine minutes."""
    await live.create(name)
    await live.run.bot.sandbox_core.pool.execute(
        "UPDATE sandboxes SET created_at = now() - interval '1 day',"
        " expires_at = now() + interval '9 minutes' WHERE name = $1",
        name,
    )


@lost
async def test_a_notice(live: Live, start_bot: StartBot, drop: bool) -> None:
    live.sim.lose_next("POST", MESSAGES, drop=drop)
    await due(live, "mine")
    await eventually(lambda: len(sent(live)) == 2)
    (message,) = written(live, live.alice)
    assert [embed["title"] for embed in message.embeds] == ["Sandbox mine expires soon"]
    assert len({request.body["nonce"] for request in sent(live)}) == 1

    # A process that was started since, and does not know that it is sent, says the same.
    await live.run.stop()
    again = await start_bot(live.run.settings, ready=False)
    await again.ready()
    await again.bot.sandbox_core.pool.execute("DELETE FROM sandbox_notices")
    await eventually(lambda: len(sent(live)) == 3 and sent(live)[-1].status == 200)
    assert written(live, live.alice) == [message]


@lost
async def test_notices_of_several_sandboxes_to_one_person_are_several(live: Live, drop: bool) -> None:
    live.sim.lose_next("POST", MESSAGES, drop=drop)
    await due(live, "one")
    await due(live, "two")
    await eventually(lambda: len(sent(live)) == 3)
    titles = {m.embeds[0]["title"] for m in written(live, live.alice)}
    assert titles == {"Sandbox one expires soon", "Sandbox two expires soon"}
    assert len(written(live, live.alice)) == 2


@lost
async def test_an_answer_to_the_bots_owner(live: Live, drop: bool) -> None:
    for text in ("list", "list"):
        live.sim.lose_next("POST", MESSAGES, drop=drop)
        before, asked = written(live, live.sim.owner), len(sent(live))
        await live.sim.dm(live.sim.owner, text)
        await eventually(lambda asked=asked: len(sent(live)) == asked + 2 and sent(live)[-1].status == 200)
        (answer,) = [m for m in written(live, live.sim.owner) if m not in before]
        assert answer.content == "There are no sandboxes."


@lost
async def test_a_long_answer_to_the_bots_owner_comes_whole(live: Live, drop: bool) -> None:
    for number in range(25):
        await live.run.bot.sandbox_core.manager.create(Actor(f"ci-{number}", f"somebody-{number}"))
    live.sim.lose_next("POST", MESSAGES, drop=drop)
    await live.sim.dm(live.sim.owner, "list")
    await eventually(lambda: len(sent(live)) == 2 and sent(live)[-1].status == 200)
    (answer,) = written(live, live.sim.owner)
    (file,) = answer.files
    assert all(f"somebody-{number}" in file.text for number in range(25))


@lost
async def test_the_first_answer_and_the_reply(live: Live, drop: bool) -> None:
    live.sim.lose_next("POST", CALLBACK, drop=drop)
    live.sim.lose_next("PATCH", ORIGINAL, drop=drop)
    made = await live.slash("create", name="mine")
    await made.wait_until(lambda r: "Sandbox mine is running" in r.text, timeout=60)
    # Sent once more by then, it does not take the next loss.
    await eventually(lambda: made.interaction.message is not None and made.interaction.message.edits == 2)
    live.sim.lose_next("PATCH", ORIGINAL, drop=drop)
    shown = await live.slash("connect", name="mine")
    edits = [r for r in live.sim.requests if r.method == "PATCH" and shown.interaction.token in r.path]
    await eventually(lambda: shown.interaction.message is not None and shown.interaction.message.edits == 2)
    assert [r.files for r in edits][:1] == [["mine.env"]]
    assert shown.interaction.message is not None
    (file,) = shown.interaction.message.files
    assert "SANDBOX_NAME=mine" in file.text, "sent again, it is whole"
    assert shown.followups == []


@lost
async def test_a_refusal_a_form_and_an_update(live: Live, drop: bool) -> None:
    await live.slash("create", name="mine")
    live.sim.lose_next("POST", CALLBACK, drop=drop)
    refused = await live.slash("extend", name="mine", duration="nonsense")
    assert "SANDBOX_007" in refused.text
    live.sim.lose_next("POST", CALLBACK, drop=drop)
    asked = await live.slash("destroy", name="mine")
    live.sim.lose_next("POST", CALLBACK, drop=drop)
    gone = await live.sim.click(asked, live.alice, label="Destroy it")
    await gone.wait_until(lambda r: "Sandbox mine is destroyed" in r.text, timeout=60)
    assert gone.followups == []
