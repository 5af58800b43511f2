"""PostgreSQL hangs when it has committed: a command that is cut off then does not say that nothing changed.

The interactions are recorded ones, as in `test_deadline`. The server is real, and its answer is held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sandbox_cogs._late import perhaps_destroyed
from sandbox_cogs.owner._commands import Commands, Request
from sandbox_cogs.sandbox import _access, _destroy, _diversion
from sandbox_cogs.sandbox._group import SandboxCommands
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.error_text import explain
from sandbox_core.errors import CleanupFailed, SandboxNotFound
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import load_settings
from sandbox_core.tasks import within
from tests.core.manager.lost_commits import LostCommits
from tests.event_path.proxy import proxied

from .conftest import COOKS_GUILD, DEV_GUILD
from .test_deadline import HostStub, RecordedInteraction

ALICE = Actor("200000000000000001", "alice")
BUDGET = 2.0
"""Enough to get as far as the commit."""
SHORT = 0.5
"""For what gets nowhere."""


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[tuple[LostCommits, str]]:
    async with proxied(database_url, kind=LostCommits) as made:
        yield made


@pytest.fixture
async def core(
    way: tuple[LostCommits, str], redis_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Core]:
    """A core whose way to PostgreSQL can fall silent, and whose caller manages every server."""

    async def access(_bot: object, guild_id: str, _user_id: int) -> GuildAccess:
        return GuildAccess(guild_id, bot_is_member=True, caller_manages=True)

    monkeypatch.setattr(_access, "guild_access", access)
    settings = load_settings(
        _env_file=None,
        database_url=way[1],
        redis_url=redis_url,
        nats_url=nats_url,
        discord_dev_guild_ids=str(DEV_GUILD),
    )
    async with open_core(settings) as opened:
        async with asyncio.timeout(60):
            while opened.routes.current_table is None:
                await asyncio.sleep(0.005)
            while not (await opened.last_events.of(str(COOKS_GUILD))).is_none:
                await asyncio.sleep(0.005)
        yield opened
        way[0].mend()


async def made(core: Core, *guild_ids: int) -> None:
    guilds = [GuildAccess(str(each), bot_is_member=True, caller_manages=True) for each in guild_ids]
    await core.manager.create(ALICE, name="mine", ttl="2h", guilds=guilds)


async def state(core: Core) -> tuple[Any, ...] | None:
    """What a person sees of the sandbox."""
    try:
        sandbox = await core.manager.get("mine")
    except SandboxNotFound:
        return None
    return sandbox.status, sandbox.expires_at, sandbox.guild_ids


def is_honest(text: str) -> bool:
    return "Nothing was changed" not in text and "Look before you repeat it" in text


async def slash(core: Core, command: str, budget: float = BUDGET, **options: str) -> str:
    interaction = RecordedInteraction(HostStub())
    found = cast("Any", SandboxCommands(core, budget=budget).get_command(command))
    await found.callback(found.binding, interaction, **options)
    embed = interaction.calls[-1][1]["embed"]
    assert embed.footer.text == "SANDBOX_012"
    return f"{embed.title} {embed.description}"


@pytest.mark.parametrize(
    ("command", "options", "mapped"),
    [
        ("register-guild", {"name": "mine", "guild": str(COOKS_GUILD)}, ()),
        ("unregister-guild", {"guild": str(COOKS_GUILD)}, (COOKS_GUILD,)),
        ("extend", {"name": "mine", "duration": "1h"}, ()),
    ],
)
async def test_a_change_that_is_made(
    core: Core,
    way: tuple[LostCommits, str],
    command: str,
    options: dict[str, str],
    mapped: tuple[int, ...],
) -> None:
    await made(core, *mapped)
    before = await state(core)
    way[0].hang()
    text = await slash(core, command, **options)
    assert way[0].lost == 1
    assert text.startswith("PostgreSQL")
    assert is_honest(text), text
    way[0].mend()
    assert await state(core) != before, "it was committed"


async def test_a_creation(core: Core, way: tuple[LostCommits, str]) -> None:
    way[0].hang()
    text = await slash(core, "create", name="mine")
    assert way[0].lost == 1
    assert is_honest(text), text
    way[0].mend()
    async with asyncio.timeout(60):
        while await state(core) is not None:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("command", "options"), [("list", {}), ("status", {"name": "mine"})])
async def test_what_only_looks_has_changed_nothing(
    core: Core, way: tuple[LostCommits, str], command: str, options: dict[str, str]
) -> None:
    await made(core)
    way[0].hang()
    way[0].cut()
    text = await slash(core, command, SHORT, **options)
    assert "Look before you repeat it" not in text
    way[0].mend()


class Pressed(RecordedInteraction):
    """A press of the button that answers a question."""

    def __init__(self, client: object) -> None:
        super().__init__(client)
        self.created_at = datetime.now(UTC)
        self.message = SimpleNamespace(id=id(self), created_at=self.created_at - timedelta(seconds=1))
        self.response.edit_message = self._edit

    async def _edit(self, **options: Any) -> None:
        self.calls.append(("edit", options))


async def test_the_answers_to_questions(core: Core, way: tuple[LostCommits, str]) -> None:
    await made(core)
    sandbox = await core.manager.get("mine")
    about = {_diversion.QUESTION: f"{sandbox.id.hex}:{COOKS_GUILD}", _destroy.ONE: sandbox.id.hex}
    for question, subject in about.items():
        before = await state(core)
        way[0].hang()
        press = Pressed(HostStub())
        asked = replace(question, budget=BUDGET)
        await asked.answered(cast("Any", press), core, choice="yes", caller_id=int(ALICE.id), about=subject)
        embed = press.calls[-1][1]["embed"]
        assert is_honest(f"{embed.title} {embed.description}"), embed.description
        way[0].mend()
        async with asyncio.timeout(60):
            while await state(core) == before:
                await asyncio.sleep(0.02)


async def owner(core: Core, word: str, *arguments: str, budget: float = BUDGET) -> str:
    """The text of the error when the command is cut off."""
    spec = Commands(cast("Any", HostStub()), core).spec(word)
    with pytest.raises(TimeoutError):
        await within(budget, spec.run(Request(ALICE, arguments, "1576959397827969025")))
    return str(explain(await spec.late(core, arguments)))


async def test_the_owners_commands(core: Core, way: tuple[LostCommits, str]) -> None:
    await made(core)
    before = await state(core)
    way[0].hang()
    text = await owner(core, "extend", "mine", "1h")
    assert is_honest(text), text
    way[0].mend()
    assert await state(core) != before
    way[0].cut()
    assert "Look before you repeat it" not in await owner(core, "list", budget=SHORT)
    assert is_honest(await owner(core, "orphans", "fix", budget=SHORT))
    way[0].mend()


async def test_a_destruction_goes_on_only_where_that_is_known(
    core: Core, way: tuple[LostCommits, str]
) -> None:
    await made(core)
    assert is_honest(str(explain(await perhaps_destroyed(core, "mine", 30))))
    way[0].cut()
    assert is_honest(str(explain(await perhaps_destroyed(core, "mine", 30))))
    way[0].mend()
    await core.pool.execute("UPDATE sandboxes SET status = 'destroying'")
    known = await perhaps_destroyed(core, "mine", 30)
    assert isinstance(known, CleanupFailed)
    assert "tries it again automatically" in explain(known).way_out
