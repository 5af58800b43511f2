"""An event came while its side was not known, and then its server's route is changed by a command."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest

from discord_sim import SimGuild
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.event_router.lane import LaneState
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.routing import RouteTable
from tests.e2e.harness import Live, eventually


class Unanswered:
    """What the process is in after it stood still: no table to trust, and nobody has answered yet."""

    def __init__(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        self.core = live.run.bot.sandbox_core
        self.may_answer = asyncio.Event()
        self.waited_for = asyncio.Event()
        self._resolve = self.core.routes.resolve
        self._settled = self.core.router.switching.settled
        monkeypatch.setattr(self.core.routes, "resolve", self._late)
        monkeypatch.setattr(self.core.router.switching, "settled", self._asked)

    async def _late(self, guild_ids: Collection[str]) -> RouteTable:
        await self.may_answer.wait()
        return await self._resolve(guild_ids)

    async def _asked(self, guild_ids: Collection[str]) -> None:
        self.waited_for.set()
        await self._settled(guild_ids)


@asynccontextmanager
async def unanswered(
    live: Live, monkeypatch: pytest.MonkeyPatch, guild: SimGuild
) -> AsyncIterator[Unanswered]:
    """A message in the guild waits for an answer meanwhile."""
    waiting = Unanswered(live, monkeypatch)
    router = waiting.core.router
    waiting.core.routes.trusted.until = -math.inf
    live.sim.message(guild, content="before")
    await eventually(lambda: router.lanes[str(guild.id)].state is LaneState.UNKNOWN)
    yield waiting
    waiting.may_answer.set()
    await router.idle()


async def test_it_goes_where_it_belonged_before(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox_id, guild = await live.mapped()
    async with unanswered(live, monkeypatch, guild) as waiting:
        command = asyncio.create_task(live.unregister(guild, sandbox_id))
        async with asyncio.timeout(60):
            await waiting.waited_for.wait()
        assert not command.done()
        waiting.may_answer.set()
        await command
    live.sim.message(guild, content="after")
    await live.checked()


@pytest.mark.parametrize("command", ["register", "unregister", "create", "destroy"])
async def test_nothing_is_changed_where_nobody_answers(
    live: Live, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("sandbox_core.route_provider.provider._SETTLED_WITHIN", 0.2)
    core, actor = live.run.bot.sandbox_core, Actor(str(live.alice.id), "alice")
    sandbox_id, mapped = await live.mapped()
    other = live.guilds[1]
    guild = other if command in {"register", "create"} else mapped
    access = GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)
    work = {
        "register": lambda: core.manager.register_guild(actor, "box", access),
        "unregister": lambda: core.manager.unregister_guild(actor, access),
        "create": lambda: core.manager.create(actor, name="another", guilds=[access]),
        "destroy": lambda: core.manager.destroy(actor, "box"),
    }
    async with unanswered(live, monkeypatch, guild):
        with pytest.raises(DependencyUnavailable, match="it is not known yet where earlier events"):
            await work[command]()
    (sandbox,) = await core.manager.list()
    assert (str(sandbox.id), sandbox.guild_ids) == (sandbox_id, (str(mapped.id),))
    await live.checked()
