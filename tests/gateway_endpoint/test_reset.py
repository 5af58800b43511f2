"""Clients of a sandbox that is reset: connected ones go on, and a RESUME never skips what is gone."""

from __future__ import annotations

import pytest

from .raw import connected
from .stage import ALICE, Process, Stage
from .test_convention import shared
from .test_resume import contents

__all__ = ["shared"]


async def _reset_under_clients(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    token = stage.token(mine)
    async with connected(process) as raw:
        await raw.identify(token)
        async with connected(process) as away:
            await away.identify(token)
            stage.sim.message(guild, content="before")
            await raw.until_content("before")
            await away.until_content("before")
        seen = away.session_id

        await stage.core.manager.reset(ALICE, "mine")
        stage.sim.message(guild, content="after")
        found = await raw.until_content("after")
        # The same connection, the next number.
        assert contents(found) == ["after"]
        assert [each["s"] for each in found] == [4]
    async with connected(process) as again:
        # It has seen all but what came since the reset.
        await again.resume(token, seen, 3)
        assert contents(await again.until_event("RESUMED")) == ["after"]
    async with connected(process) as late:
        # It has not seen what the reset has deleted.
        await late.resume(token, raw.session_id, 2)
        answer = await late.receive()
        assert (answer["op"], answer["d"]) == (9, False)
        # The same connection can identify.
        await late.identify(token)
        stage.sim.message(guild, content="then")
        assert contents(await late.until_content("then")) == ["then"]


async def test_with_an_account_of_its_own(stage: Stage, process: Process) -> None:
    await _reset_under_clients(stage, process)


async def test_by_convention(shared: Stage) -> None:
    await _reset_under_clients(shared, await shared.start())


@pytest.mark.parametrize("rounds", [5])
async def test_nothing_left_to_get_is_a_resume(stage: Stage, process: Process, rounds: int) -> None:
    guild = stage.guilds[0]
    token = stage.token(await stage.sandbox("mine", guild))
    async with connected(process) as raw:
        await raw.identify(token)
        for number in range(rounds):
            stage.sim.message(guild, content=f"{number}")
        await raw.until_content(f"{rounds - 1}")
    await stage.core.manager.reset(ALICE, "mine")
    async with connected(process) as again:
        await again.resume(token, raw.session_id, 2 + rounds)
        assert contents(await again.until_event("RESUMED")) == []
