"""A worker's `SandboxContext` with a login of its own to the sandboxes' NATS server."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from sandbox_core.context import SandboxContext, environment
from sandbox_core.errors import InvalidInput
from sandbox_core.models import Sandbox
from sandbox_core.namespaces.nats_letters import SandboxDeadLetters
from sandbox_core.subjects import SLOT_DEAD_LETTERS
from tests.streams import streams_at

from .conftest import Bot, sandbox_of

FRAME = b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"guild_id":"100000000000000001"}}'


@pytest.fixture
def variables(bot: Bot, sandbox: Sandbox, database_url: str, redis_url: str) -> dict[str, str]:
    shown = bot.logins.variables(sandbox)
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url, **environment(sandbox), **shown}


async def test_it_gets_events_unmodified(bot: Bot, sandbox: Sandbox, variables: dict[str, str]) -> None:
    await bot.send(sandbox, FRAME.decode(), "s:0:1")
    async with SandboxContext.from_env(variables) as context:
        async with aclosing(context.events("MESSAGE_CREATE", consumer="worker")) as events:
            event = await anext(events)
            assert event.type == "MESSAGE_CREATE"
        await context.publish("mine", b"x")


async def test_its_dead_letters_are_shown_repeated_and_dropped(
    bot: Bot, sandbox: Sandbox, variables: dict[str, str]
) -> None:
    letters = SandboxDeadLetters(bot.pool, bot.streams, streams_at(bot.nats.bot.client.jetstream()))
    await bot.send(sandbox, FRAME.decode(), "s:0:1")

    async with (
        SandboxContext.from_env(variables) as context,
        aclosing(context.events("MESSAGE_CREATE", consumer="worker", max_deliveries=1)) as events,
    ):
        await anext(events)
        await events.failed(ValueError())

    assert await letters.counts() == {str(sandbox.id): 1}
    (letter,) = await letters.list(sandbox.id, limit=10)
    assert (letter.event_type, letter.frame, letter.obstacle) == ("MESSAGE_CREATE", FRAME, "")
    assert await letters.get(sandbox.id, str(letter.id)) == letter

    await letters.replay(letter)
    assert await letters.counts() == {}
    assert (await bot.namespace.check(sandbox)).facts["messages"] == 2
    with pytest.raises(InvalidInput):
        await letters.get(sandbox.id, str(letter.id))
    nobody = sandbox_of()
    assert await letters.list(nobody.id, limit=10) == []
    with pytest.raises(InvalidInput):
        await letters.get(nobody.id, "1")


async def test_letters_do_not_age(bot: Bot, sandbox: Sandbox) -> None:
    found = await bot.streams.infos(await bot.slot(sandbox))
    assert found[SLOT_DEAD_LETTERS].config.max_age == 0
