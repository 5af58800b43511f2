"""A colleague's bot connects with a token of its own, which ends with the sharing, and with nothing else."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from sandbox_core.manager import Colleague
from sandbox_core.models import ShareAccess

from .raw import connected
from .stage import ALICE, BOB, Process, Stage
from .test_protocol import pause

COLLEAGUE = Colleague(BOB.id, "Bob")


async def status_of(process: Process, token: str) -> int:
    """What the REST guard answers to a call with this token."""
    headers = {"Authorization": f"Bot {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{process.api_url}/users/@me", headers=headers) as answer,
    ):
        return answer.status


async def test_their_token_ends_with_the_sharing(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    own = stage.token(mine)
    shared = await stage.core.manager.share(ALICE, "mine", COLLEAGUE, ShareAccess.USE)
    token = stage.core.manager.credentials_for(BOB, shared.sandbox)["DISCORD_TOKEN"]
    assert token != own
    async with connected(process) as his, connected(process) as hers:
        await his.identify(token)
        await pause()
        await hers.identify(own)
        assert await status_of(process, token) == 200
        # Both get every event; and what somebody else is given or loses changes nothing for them.
        carol = Colleague("200000000000000009")
        await stage.core.manager.share(ALICE, "mine", carol, ShareAccess.USE)
        await stage.core.manager.unshare(ALICE, "mine", carol.user_id)
        stage.sim.message(guild, content="for both")
        await his.until_content("for both")
        await hers.until_content("for both")

        closing = asyncio.create_task(his.close_code())
        changing = asyncio.create_task(stage.core.manager.unshare(ALICE, "mine", BOB.id))
        while (await stage.core.manager.get("mine")).share_of(BOB.id) is not None:
            await asyncio.sleep(0.01)
        committed = time.monotonic()
        assert await closing == 4004
        assert time.monotonic() - committed < 1
        await changing
        assert await status_of(process, token) == 401
        assert await status_of(process, own) == 200
        stage.sim.message(guild, content="for her alone")
        await hers.until_content("for her alone")
    async with connected(process) as again:
        await again.send(2, {"token": token, "intents": 1, "properties": {}})
        assert await again.close_code() == 4004
    async with connected(process) as again:
        await again.resume(token, his.session_id, 1)
        assert await again.close_code() == 4004
