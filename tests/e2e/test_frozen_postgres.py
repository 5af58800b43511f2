"""PostgreSQL that hangs: its port takes connections, and nothing answers. No command ends without an answer.

The simulator takes no first answer after Discord's three seconds. Everything is asked at once of one frozen
server, which runs for this test alone: every command, button, menu and form, and every list of suggestions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import pytest
from discord import app_commands

from discord_sim import InteractionResult
from sandbox_bot.embedded import PostgresServer, embedded_servers
from sandbox_bot.migrate import migrate
from sandbox_cogs.sandbox._presses import _HANDLERS, _QUESTIONS
from sandbox_core.events.owner_command import OWNER_COMMANDS
from tests.e2e.harness import Live, eventually
from tests.embedded.hanging import frozen
from tests.event_path.conftest import count

from .conftest import StartLive

_AT_ONCE = 3.0
"""Discord's limit for the first answer, in seconds."""
_PATIENCE = 30.0
_NEED_NO_STORE = {"/help", "button extend"}
"""The latter's answer is a form."""
_SELECT = 3
_MENUS = {"pick", "pickevents", "event"}
_MESSAGES_WITHOUT_POSTGRES = ("help", "sync", "routes")
"""The last tells what this process knows, as long as that is current."""
_MESSAGES = (
    "list",
    "status",
    "status first",
    "destroy first",
    "extend first 1h",
    "audit first",
    "cleanup",
    "orphans",
    "health",
    *_MESSAGES_WITHOUT_POSTGRES,
)


@pytest.fixture
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresServer]:
    async with embedded_servers(tmp_path_factory.mktemp("frozen"), fast=True) as own:
        await migrate(own.database_url)
        yield own.postgres


@dataclass
class Prepared:
    """What people have before them when PostgreSQL freezes."""

    buttons: dict[str, tuple[InteractionResult, str]]
    """Of each verb, and of each question: the message, and the label."""
    menus: list[tuple[InteractionResult, str]]
    """Each with what is chosen in it."""
    form: InteractionResult


async def prepare(live: Live) -> Prepared:
    """Two sandboxes, and messages of their own for every button, so that no press hides another."""
    first = await live.slash("create", name="first")
    await live.slash("create", name="second")
    for number in range(12):
        await live.run.bot.sandbox_core.pool.execute(
            "INSERT INTO sandboxes (id, name, owner, status, schema_name, created_at, expires_at)"
            " VALUES ($1, $2, 'ci', 'destroyed', $3, now(), now() + '1 h')",
            uuid4(),
            f"old-{number}",
            f"sandbox_{number:08x}",
        )
    guild = str(live.guilds[0].id)
    # Its registration is asked about.
    count(live.run.bot.sandbox_core.router.activity, guild, None)
    watched = await live.slash("status", name="second", watch=True)
    sandbox = await live.run.bot.sandbox_core.manager.get("second")
    await live.register(live.guilds[1], str(sandbox.id), "second")
    live.sim.message(live.guilds[1], content="seen")
    events = [await _events(live) for _ in range(3)]
    return Prepared(
        buttons={
            "events": (events[0], "Refresh"),
            "replay": (events[1], "Replay it"),
            "eventsjson": (events[2], "JSON"),
            "unfollow": (await live.slash("events", name="second", follow=True), "Stop following"),
            "ask reset": (await live.slash("reset", name="first"), "Reset it"),
            "connect": (first, "Connect"),
            "register": (first, "Register this server"),
            "extend": (first, "Extend"),
            "destroy": (first, "Destroy"),
            "refresh": (await live.slash("status", name="first"), "Refresh"),
            "unwatch": (watched, "Stop watching"),
            "list": (await live.slash("list", all=True), "Next"),
            "ask guild": (await live.slash("register-guild", name="first", guild=guild), "Register it"),
            "ask destroy": (await live.slash("destroy", name="first"), "Destroy it"),
            "ask all": (await live.slash("destroy", all=True), "Destroy all of them"),
        },
        menus=[
            (await live.slash("status"), "first"),
            (await live.slash("events"), "first"),
            (shown := await _events(live), _menu_of(shown)["options"][0]["value"]),
        ],
        form=await live.sim.click(first, live.alice, label="Extend"),
    )


async def _events(live: Live) -> InteractionResult:
    """The message with the sandbox's events, once there is one."""
    async with asyncio.timeout(_PATIENCE):
        while not _menu_of(shown := await live.slash("events", name="second")):
            await asyncio.sleep(0.05)
    return shown


def _menu_of(result: InteractionResult) -> dict[str, Any]:
    rows = [row["components"] for row in result.components]
    return next((each for row in rows for each in row if each["type"] == _SELECT), {})


def commands(live: Live) -> dict[str, dict[str, Any]]:
    """Each command with options that lead it to its work."""
    guild = str(live.guilds[0].id)
    return {
        "create": {"name": "never", "guild": guild},
        "list": {},
        "status": {"name": "first"},
        "connect": {"name": "first"},
        "rotate": {"name": "first"},
        "level": {"name": "first", "level": "read_only"},
        "register-guild": {"name": "first", "guild": guild},
        "unregister-guild": {"guild": guild},
        "extend": {"name": "first", "duration": "1h"},
        "events": {"name": "first"},
        "reset": {"name": "first"},
        "share": {"name": "first", "user": live.sim.owner},
        "unshare": {"name": "first", "user": live.sim.owner},
        "destroy": {"name": "first"},
        "help": {},
    }


def group_of(live: Live) -> app_commands.Group:
    tree = live.run.bot.tree
    (group,) = tree.get_commands(guild=cast("Any", live.dev))
    assert isinstance(group, app_commands.Group)
    return group


def suggested_options(group: app_commands.Group) -> set[tuple[str, str]]:
    """Every option with a list of suggestions, by its command."""
    return {
        (command.name, parameter.display_name)
        for command in group.commands
        if isinstance(command, app_commands.Command)
        for parameter in command.parameters
        if parameter.autocomplete
    }


class People:
    """Everybody at once, each with one action."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.seen: dict[str, InteractionResult] = {}
        self.suggested: dict[tuple[str, str], list[tuple[str, Any]]] = {}
        self.replies: list[str] = []

    async def use(self, command: str, options: dict[str, Any]) -> None:
        """A command."""
        self.seen[f"/{command}"] = await self._live.slash(command, timeout=_PATIENCE, values=options)

    async def press(self, verb: str, message: InteractionResult, label: str) -> None:
        """A button; its answer may first say that something is being done."""
        before = message.text
        result = await self._live.sim.click(message, self._live.alice, label=label, wait=False)
        await result.wait_until(
            lambda r: r.modal is not None or (r.answered and r.text != before and not r.text.endswith("…")),
            _PATIENCE,
        )
        self.seen[f"button {verb}"] = result

    async def choose(self, menu: InteractionResult, entry: str) -> None:
        """An entry of a menu."""
        select = self._live.sim.select(menu, self._live.alice, [entry], timeout=_PATIENCE)
        self.seen[f"menu {len(self.seen)}"] = await select

    async def submit(self, form: InteractionResult) -> None:
        """A form."""
        self.seen["form"] = await self._live.sim.submit_modal(
            form, self._live.alice, {"sandbox:duration": "1h"}, timeout=_PATIENCE
        )

    async def type_into(self, command: str, option: str) -> None:
        """An option; its suggestions."""
        self.suggested[command, option] = await self._live.sim.autocomplete(
            self._live.alice,
            self._live.dev.default_channel,
            f"sandbox {command}",
            focused=option,
            value="",
            timeout=_AT_ONCE,
        )

    async def write(self, texts: Sequence[str]) -> None:
        """The owner's direct messages; the replies to all of them."""
        sim = self._live.sim
        first, *others = texts
        answered = asyncio.create_task(sim.dm(sim.owner, first, timeout=_PATIENCE, count=len(texts)))
        await asyncio.sleep(0)
        for text in others:
            await sim.dm(sim.owner, text, count=0)
        self.replies = [message.text for message in await answered]


async def test_everything_answers_in_time_and_names_postgresql(
    start_live: StartLive, postgres: PostgresServer
) -> None:
    live = await start_live(database_url=postgres.url)
    prepared, asked, typed = await prepare(live), commands(live), suggested_options(group_of(live))
    # Nothing that can be used is left out.
    assert set(asked) == {command.name for command in group_of(live).commands}
    assert {verb.split()[0] for verb in prepared.buttons} | _MENUS == set(_HANDLERS)
    assert {verb.split()[1] for verb in prepared.buttons if " " in verb} == set(_QUESTIONS)
    assert {text.split()[0] for text in _MESSAGES} == set(OWNER_COMMANDS)

    people = People(live)
    async with frozen(postgres), asyncio.timeout(2 * _PATIENCE), asyncio.TaskGroup() as together:
        for work in (
            *(people.use(command, options) for command, options in asked.items()),
            *(people.press(verb, *button) for verb, button in prepared.buttons.items()),
            *(people.choose(*menu) for menu in prepared.menus),
            people.submit(prepared.form),
            *(people.type_into(command, option) for command, option in typed),
            people.write(_MESSAGES),
        ):
            together.create_task(work)

    assert {what: r.responded_in_seconds for what, r in people.seen.items()} == {
        what: pytest.approx(0, abs=_AT_ONCE) for what in people.seen
    }
    others = {what: r.text for what, r in people.seen.items() if what not in _NEED_NO_STORE}
    assert [what for what, text in others.items() if "SANDBOX_012" not in text] == []
    assert [what for what, text in others.items() if "PostgreSQL is unavailable" not in text] == []
    # Names are the database's; servers, templates and types are not.
    assert set(people.suggested) == typed
    assert {option for (_, option), choices in people.suggested.items() if choices} == {
        "guild",
        "template",
        "type",
    }
    assert len(people.replies) == len(_MESSAGES)
    silent = [text for text in people.replies if "PostgreSQL" not in text]
    assert len(silent) <= len(_MESSAGES_WITHOUT_POSTGRES), silent

    await eventually(lambda: _works_again(live))
    assert sorted(each.name for each in await live.run.bot.sandbox_core.manager.list()) == ["first", "second"]


async def _works_again(live: Live) -> bool:
    return "first" in (await live.slash("list", timeout=_PATIENCE)).text
