"""A nonce that is enforced makes one message of a request and its repetitions, as Discord has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from discord_sim import DiscordSim
from tests.sim.conftest import ManualClock

Send = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def sim(clock: ManualClock) -> AsyncIterator[DiscordSim]:
    async with DiscordSim(clock=clock, record=True) as running:
        yield running


@pytest.fixture
async def send(sim: DiscordSim) -> AsyncIterator[Send]:
    """Sends a message as the bot, to a user; the status and the body of the answer."""
    headers = {"Authorization": f"Bot {sim.token}"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def post(user: str = "alice", **body: Any) -> tuple[int, Any]:
            known = {each.name: each for each in sim.world.users.values()}
            channel = sim.world.dm_channel(known.get(user) or sim.add_user(user))
            url = f"{sim.api_url}/channels/{channel.id}/messages"
            async with http.post(url, json={"content": "hello", **body}) as answer:
                return answer.status, await answer.json()

        yield post


async def test_the_same_nonce_makes_one_message_for_a_few_minutes(
    sim: DiscordSim, clock: ManualClock, send: Send
) -> None:
    (_, first), (_, again) = [await send(nonce="n1", enforce_nonce=True) for _ in range(2)]
    assert again["id"] == first["id"]
    _, number = await send(nonce=17, enforce_nonce=True)
    _, text = await send(nonce="17", enforce_nonce=True, content="another text")
    assert (text["id"], text["content"]) == (number["id"], "hello")
    clock.advance(301)
    _, later = await send(nonce="n1", enforce_nonce=True)
    assert later["id"] != first["id"]
    assert len(sim.world.messages[int(first["channel_id"])]) == 3


async def test_without_enforce_nonce_or_to_somebody_else_it_is_another_message(send: Send) -> None:
    made = [
        await send(nonce="n1", enforce_nonce=True),
        await send(nonce="n1"),
        await send(nonce="n2", enforce_nonce=True),
        await send(enforce_nonce=True),
        await send("bob", nonce="n1", enforce_nonce=True),
    ]
    assert [status for status, _ in made] == [200] * 5
    assert len({body["id"] for _, body in made}) == 5


async def test_a_deleted_message_is_not_made_again(sim: DiscordSim, send: Send) -> None:
    _, first = await send(nonce="n1", enforce_nonce=True)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bot {sim.token}"}) as http:
        url = f"{sim.api_url}/channels/{first['channel_id']}/messages/{first['id']}"
        async with http.delete(url) as answer:
            assert answer.status == 204
    status, refused = await send(nonce="n1", enforce_nonce=True)
    assert (status, refused["code"]) == (404, 10008)


@pytest.mark.parametrize(
    ("nonce", "kind"),
    [("x" * 26, "NONCE_TYPE_TOO_LONG"), (True, "NONCE_TYPE_INVALID_TYPE"), ([], "NONCE_TYPE_INVALID_TYPE")],
)
async def test_a_nonce_is_a_short_text_or_a_number(send: Send, nonce: object, kind: str) -> None:
    status, refused = await send(nonce=nonce, enforce_nonce=True)
    assert (status, refused["errors"]["nonce"]["_errors"][0]["code"]) == (400, kind)
    assert (await send(nonce="x" * 25, enforce_nonce=True))[0] == 200


@pytest.mark.parametrize("drop", [False, True])
async def test_a_lost_answer_is_lost_after_the_work(sim: DiscordSim, send: Send, drop: bool) -> None:
    sim.lose_next("POST", r"/messages$", drop=drop)
    if drop:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await send(nonce="n1", enforce_nonce=True)
    else:
        assert (await send(nonce="n1", enforce_nonce=True))[0] == 502
    _, again = await send(nonce="n1", enforce_nonce=True)
    assert [str(each) for each in sim.world.messages[int(again["channel_id"])]] == [again["id"]]
