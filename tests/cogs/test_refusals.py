"""What a command refuses: a private answer with its code, and nothing changed in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord
import pytest
from structlog.testing import capture_logs

from .conftest import (
    ABSENT_GUILD,
    COOKS_GUILD,
    DEV_GUILD,
    LIMIT_PER_OWNER,
    MUSIC_GUILD,
    PROTECTED_GUILD,
    Scene,
    code_of,
    embed_of,
    text_of,
)

LOOK_ALIKE = "раypal"  # noqa: RUF001 - two Cyrillic letters


@asynccontextmanager
async def nothing_changes(scene: Scene) -> AsyncIterator[None]:
    before = await scene.stored()
    yield
    assert await scene.stored() == before


@pytest.mark.parametrize(
    "name", ["", "n" * 64, "Welcome", "a;drop table", "*", ">", "..", "ab", "-abc", LOOK_ALIKE]
)
async def test_bad_names(scene: Scene, name: str) -> None:
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, "sandbox create", name=name)
    assert code_of(result) == "SANDBOX_007"
    assert "name" in (embed_of(result).title or "")


async def test_upper_case_is_refused_with_the_lower_case_form(scene: Scene) -> None:
    result = await scene.alice.slash(scene.channel, "sandbox create", name="Welcome")
    assert "`welcome`" in text_of(embed_of(result))


@pytest.mark.parametrize("ttl", ["0", "-1h", "10y", "abc", "169h", "", "59s"])
async def test_bad_ttls(scene: Scene, ttl: str) -> None:
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, "sandbox create", name="fine-name", ttl=ttl)
    assert code_of(result) == "SANDBOX_007"
    assert "TTL" in (embed_of(result).title or "")


@pytest.mark.parametrize("duration", ["0", "-1h", "abc", "59s"])
async def test_bad_durations(scene: Scene, duration: str) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, "sandbox extend", name="alices", duration=duration)
    assert code_of(result) == "SANDBOX_007"


@pytest.mark.parametrize("guild", ["abc", "123", "1" * 21, "-1", "6134256486855475４1", "Cooks", ""])  # noqa: RUF001
async def test_bad_guild_ids(scene: Scene, guild: str) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    async with nothing_changes(scene):
        for command, options in (
            ("sandbox create", {"name": "another"}),
            ("sandbox register-guild", {"name": "alices"}),
            ("sandbox unregister-guild", {}),
        ):
            result = await scene.alice.slash(scene.channel, command, guild=guild, **options)
            assert code_of(result) == "SANDBOX_007", command
            assert "17 to 20 digits" in text_of(embed_of(result))


async def test_a_guild_without_the_bot(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    async with nothing_changes(scene):
        for command, options in (
            ("sandbox create", {"name": "another"}),
            ("sandbox register-guild", {"name": "alices"}),
        ):
            result = await scene.alice.slash(scene.channel, command, guild=ABSENT_GUILD, **options)
            assert code_of(result) == "SANDBOX_007"
            assert "The bot is not in the server" in text_of(embed_of(result))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("status", {}),
        ("connect", {}),
        ("register-guild", {}),
        ("unregister-guild", {}),
        ("extend", {"duration": "1h"}),
        ("destroy", {}),
    ],
)
async def test_unknown_sandboxes(scene: Scene, command: str, options: dict[str, str]) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="welcome-flow")
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, f"sandbox {command}", name="welcome-flwo", **options)
    assert code_of(result) == "SANDBOX_004"
    assert "Did you mean `welcome-flow`?" in text_of(embed_of(result))


@pytest.mark.parametrize(
    ("command", "options"),
    [("connect", {}), ("register-guild", {}), ("extend", {"duration": "1h"}), ("destroy", {})],
)
async def test_somebody_elses_sandbox(scene: Scene, command: str, options: dict[str, str]) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    async with nothing_changes(scene):
        result = await scene.bob.slash(scene.channel, f"sandbox {command}", name="alices", **options)
    assert code_of(result) == "SANDBOX_010"
    assert result.response is not None
    assert result.response.components == []
    assert result.response.attachments == []


async def test_unregistering_somebody_elses_guild(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices", guild=str(COOKS_GUILD))
    async with nothing_changes(scene):
        result = await scene.bob.slash(scene.channel, "sandbox unregister-guild", guild=str(COOKS_GUILD))
    assert code_of(result) == "SANDBOX_010"


@pytest.mark.parametrize("command", ["sandbox create", "sandbox register-guild"])
async def test_a_guild_that_the_caller_does_not_manage(scene: Scene, command: str) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    options = {"name": "another"} if command == "sandbox create" else {}
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, command, guild=str(MUSIC_GUILD), **options)
    assert code_of(result) == "SANDBOX_010"
    assert "Manage Server" in text_of(embed_of(result))


async def test_manage_server_is_looked_up_live(scene: Scene) -> None:
    await scene.bob.slash(scene.channel, "sandbox create", name="bobs")
    refused = await scene.bob.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD))
    assert code_of(refused) == "SANDBOX_010"
    promoted = scene.cooks.create_role("promoted", permissions=discord.Permissions(manage_guild=True))
    # Straight into Discord's state, without the event that says so: a cache could not know.
    scene.env.backend.get_member(COOKS_GUILD, scene.bob.id).role_ids.append(promoted.id)
    embed_of(await scene.bob.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD)))
    assert (await scene.core.manager.get("bobs")).guild_ids == (str(COOKS_GUILD),)


async def test_a_protected_guild(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, "sandbox register-guild", guild=str(PROTECTED_GUILD))
    assert code_of(result) == "SANDBOX_010"
    assert "protected" in text_of(embed_of(result))


async def test_a_guild_that_another_sandbox_has(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    await scene.alice.slash(scene.channel, "sandbox register-guild")
    await scene.bob.slash(scene.channel, "sandbox create", name="bobs")
    async with nothing_changes(scene):
        result = await scene.bob.slash(scene.channel, "sandbox register-guild", name="bobs")
    assert code_of(result) == "SANDBOX_003"
    assert "`alices`" in text_of(embed_of(result))


async def test_creating_with_a_guild_that_another_sandbox_has_makes_nothing(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    await scene.alice.slash(scene.channel, "sandbox register-guild")
    before = await scene.stored()
    result = await scene.bob.slash(scene.channel, "sandbox create", name="bobs", guild=str(DEV_GUILD))
    after = await scene.stored()
    assert code_of(result) == "SANDBOX_003"
    assert (after["guilds"], after["schemas"]) == (before["guilds"], before["schemas"])
    assert [row.name for row in await scene.core.manager.list()] == ["alices"]


async def test_a_guild_that_is_not_registered(scene: Scene) -> None:
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, "sandbox unregister-guild")
    assert code_of(result) == "SANDBOX_011"


async def test_a_name_that_is_taken(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="taken")
    async with nothing_changes(scene):
        result = await scene.bob.slash(scene.channel, "sandbox create", name="taken")
    assert code_of(result) == "SANDBOX_001"


async def test_the_owners_limit(scene: Scene) -> None:
    for number in range(LIMIT_PER_OWNER):
        await scene.alice.slash(scene.channel, "sandbox create", name=f"number-{number}")
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, "sandbox create", name="one-more")
    assert code_of(result) == "SANDBOX_002"
    assert "`number-0`" in text_of(embed_of(result))


async def test_without_a_name_it_must_be_clear_which_sandbox(scene: Scene) -> None:
    for command in ("sandbox status", "sandbox register-guild", "sandbox destroy"):
        result = await scene.alice.slash(scene.channel, command)
        assert code_of(result) == "SANDBOX_007"
        assert "`/sandbox create` makes one" in text_of(embed_of(result))
    await scene.alice.slash(scene.channel, "sandbox create", name="first")
    await scene.alice.slash(scene.channel, "sandbox create", name="second")
    async with nothing_changes(scene):
        for command in ("sandbox destroy", "sandbox register-guild"):
            result = await scene.alice.slash(scene.channel, command)
            assert code_of(result) == "SANDBOX_007"
            assert "You have 2 sandboxes" in text_of(embed_of(result))
            assert "`first`" in text_of(embed_of(result))


async def test_a_sandbox_past_its_time(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="old")
    await scene.core.pool.execute(
        "UPDATE sandboxes SET created_at = now() - interval '2 h', expires_at = now() - interval '1 s'"
    )
    async with nothing_changes(scene):
        for command, options in (("connect", {}), ("register-guild", {}), ("extend", {"duration": "1h"})):
            result = await scene.alice.slash(scene.channel, f"sandbox {command}", name="old", **options)
            assert code_of(result) == "SANDBOX_008", command
    status = embed_of(await scene.alice.slash(scene.channel, "sandbox status", name="old"))
    assert "production" in (status.description or "")


async def test_discord_away_during_the_look_up(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    scene.env.inject_error("GET", f"/guilds/{COOKS_GUILD}", status=503)
    async with nothing_changes(scene):
        result = await scene.alice.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD))
    assert code_of(result) == "SANDBOX_012"
    assert "Discord is unavailable" in text_of(embed_of(result))


async def test_a_fault_is_one_sentence_with_an_id_that_is_in_the_log(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fault(**_: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(scene.core.manager, "list", fault)
    with capture_logs() as logs:
        result = await scene.alice.slash(scene.channel, "sandbox list")
    (entry,) = [entry for entry in logs if entry["event"] == "interaction_failed"]
    text = text_of(embed_of(result))
    assert f"`{entry['error_id']}`" in text
    assert "hunter2" not in text
    assert isinstance(entry["exc_info"], RuntimeError)
    assert entry["command"] == "sandbox list"
    assert entry["log_level"] == "error"


async def test_an_answer_that_discord_refuses_is_logged_and_ends(scene: Scene) -> None:
    scene.env.inject_error("PATCH", "/webhooks/*", status=404, code=10015, times=None)
    with capture_logs() as logs:
        await scene.alice.slash(scene.channel, "sandbox list")
    assert [entry["event"] for entry in logs if entry["log_level"] in {"error", "warning"}] == [
        "answer_not_shown",
        "interaction_not_answered",
    ]


async def test_what_is_done_is_not_answered_as_failed(scene: Scene) -> None:
    scene.env.inject_error("PATCH", "/webhooks/*", status=400, code=50035, times=1)
    result = await scene.alice.slash(scene.channel, "sandbox create", name="made")
    assert "It is done" in text_of(embed_of(result))
    assert [sandbox.name for sandbox in await scene.core.manager.list()] == ["made"]
