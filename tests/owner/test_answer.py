"""Answers within Discord's limit, and who owns the bot."""

from __future__ import annotations

from typing import Any

import discord
import pytest
from discord.ext import commands
from hypothesis import given
from hypothesis import strategies as st

from sandbox_cogs._owners import owner_ids_of
from sandbox_cogs.owner._answer import MESSAGE_LIMIT, Answer, as_message, columns
from sandbox_core.settings import Settings, load_settings

texts = st.text(max_size=3000)


@given(
    text=texts.filter(bool), table=st.lists(st.text(st.characters(exclude_characters="\r\n`"), max_size=200))
)
def test_a_message_is_never_too_long_and_nothing_is_lost(text: str, table: list[str]) -> None:
    content, file = as_message(Answer(text, tuple(table), "name.txt"))
    assert 0 < len(content.encode("utf-16-le", "surrogatepass")) // 2 <= MESSAGE_LIMIT
    if file is None:
        assert content.startswith(text)
        assert all(line in content for line in table)
        return
    assert file.filename == "name.txt"
    attached = file.fp.read().decode()
    assert attached.endswith("\n".join((*table, "")))
    assert content.startswith(text) or attached.startswith(text)


def test_the_limit_itself() -> None:
    assert as_message(Answer("x" * MESSAGE_LIMIT)) == ("x" * MESSAGE_LIMIT, None)
    content, file = as_message(Answer("x" * MESSAGE_LIMIT + "y"))
    assert content == "The attached file has all of it."
    assert file is not None
    assert file.fp.read() == b"x" * MESSAGE_LIMIT + b"y\n"
    # An emoji may count twice.
    assert as_message(Answer("🟢" * (MESSAGE_LIMIT // 2 + 1)))[1] is not None


def test_columns() -> None:
    assert columns([("A", "B"), ("long", "")]) == ("A     B", "long")


def settings(owner_ids: str = "") -> Settings:
    return load_settings(
        _env_file=None,
        database_url="postgresql://localhost/x",
        redis_url="redis://localhost",
        nats_url="nats://localhost",
        discord_owner_ids=owner_ids,
    )


def application(team: list[tuple[str, int]]) -> Any:
    user = {"id": "7", "username": "root", "discriminator": "0", "avatar": None}
    members = [
        {"user": {**user, "id": str(number)}, "role": role, "membership_state": 2, "team_id": "1"}
        for role, number in team
    ]
    data = {
        "id": "1",
        "name": "app",
        "description": "",
        "icon": None,
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "00",
        "owner": user,
        "team": {"id": "1", "name": "team", "icon": None, "owner_user_id": "7", "members": members}
        if team
        else None,
    }
    state: Any = commands.Bot("!", intents=discord.Intents.none())._connection
    return discord.AppInfo(state, data)  # type: ignore[arg-type]


def test_who_owns_the_bot() -> None:
    bot = commands.Bot("!", intents=discord.Intents.none())
    assert owner_ids_of(bot, settings()) == frozenset()
    bot._application = application([])
    assert owner_ids_of(bot, settings()) == {"7"}
    bot._application = application([("admin", 11), ("developer", 12), ("read_only", 13)])
    assert owner_ids_of(bot, settings()) == {"11", "12"}
    bot.owner_ids = {21, 22}
    assert owner_ids_of(bot, settings()) == {"21", "22"}
    bot.owner_ids, bot.owner_id = set(), 31
    assert owner_ids_of(bot, settings()) == {"31"}
    explicit = "413625648685547541"
    assert owner_ids_of(bot, settings(explicit)) == {explicit}


@pytest.mark.parametrize("team", [[], [("admin", 11), ("developer", 12), ("read_only", 13)]])
async def test_they_are_the_owners_that_discord_py_knows(team: list[tuple[str, int]]) -> None:
    bot = commands.Bot("!", intents=discord.Intents.none())
    info = application(team)
    bot._application = info
    ours = owner_ids_of(bot, settings())

    async def application_info() -> discord.AppInfo:
        return info  # type: ignore[no-any-return]

    bot.application_info = application_info  # type: ignore[method-assign]
    theirs = {str(number) for number in (7, 11, 12, 13) if await bot.is_owner(discord.Object(number))}  # type: ignore[arg-type]
    assert ours == theirs
