"""`register-guild` and `unregister-guild` against a Discord over HTTP: who may divert a server's events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from discord_sim import DiscordSim

from .conftest import ALICE, BOB, GUILD, PROTECTED, Shell
from .schemas import check
from .terminal import on_terminal

_MANAGE_GUILD = 1 << 5
TOKEN = "sim.token-of.the-bot"


@dataclass(frozen=True)
class Scene:
    """Alice's sandbox; Alice manages the server through a role, Bob is a member, nobody owns it."""

    sim: DiscordSim
    shell: Shell
    operator: Shell


@pytest.fixture
async def scene(shell: Shell) -> AsyncIterator[Scene]:
    async with DiscordSim(TOKEN) as sim:
        root = sim.add_user("root")
        alice, bob = sim.add_user("alice", id=int(ALICE)), sim.add_user("bob", id=int(BOB))
        for guild_id, name in ((GUILD, "Cooks"), (PROTECTED, "Production")):
            guild = sim.add_guild(name, id=int(guild_id), owner=root)
            guild.add_member(alice, roles=[guild.add_role("managers", _MANAGE_GUILD)])
            guild.add_member(bob)
        with_discord = Shell(
            {**shell.env, "DISCORD_TOKEN": TOKEN, "DISCORD_API_URL": sim.api_url},
            shell.home,
            shell.warm,
            (*shell.secrets, TOKEN),
        )
        await shell.ok("create", "diverted", "--owner", ALICE)
        yield Scene(sim, with_discord, with_discord)
        await shell.ok("destroy", "diverted", "--yes")


async def test_a_developer_needs_manage_server_in_that_server(scene: Scene) -> None:
    as_alice = scene.shell.having(SANDBOX_OWNER=ALICE)
    done = (await as_alice.ok("register-guild", "diverted", GUILD, "--yes", "--json")).json
    check("register-guild", done)
    assert done["already"] is False
    again = await as_alice.ok("register-guild", "diverted", GUILD, "--yes")
    assert "already go to diverted." in again.out
    assert (done["guild_name"], done["checked"], done["sandbox"]["guild_ids"]) == ("Cooks", True, [GUILD])

    # Taken away a moment ago, and it counts: nothing is remembered.
    guild = next(guild for guild in scene.sim.world.guilds.values() if str(guild.id) == GUILD)
    for role in list(guild.roles.values()):
        guild.edit_role(role, 0)
    refused = await as_alice("register-guild", "diverted", GUILD, "--yes")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("SANDBOX_010: ")
    # And nobody is asked about what they may not do.
    code, on_screen = await on_terminal(as_alice, "register-guild", "diverted", GUILD, answer="y")
    assert (code, "SANDBOX_010: " in on_screen, "Go on?" in on_screen) == (1, True, False)
    # It is still Alice's sandbox, so she may give the events back.
    await as_alice.ok("unregister-guild", GUILD)


async def test_what_is_refused_is_not_asked_about(scene: Scene) -> None:
    """Refusals with their codes first, then the question, then the change."""
    await scene.operator.ok("register-guild", "diverted", GUILD, "--yes")
    as_alice = scene.shell.having(SANDBOX_OWNER=ALICE)
    as_bob = scene.shell.having(SANDBOX_OWNER=BOB)
    create, register = ("create", "mine", "--guild"), ("register-guild", "diverted")
    for shell, arguments, code in (
        (as_bob, (*create, GUILD), "SANDBOX_010"),
        (as_alice, (*create, PROTECTED), "SANDBOX_010"),
        (as_alice, (*create, GUILD), "SANDBOX_003"),
        (as_alice, (*create, "399999999999999999"), "SANDBOX_007"),
        (as_alice, (*create, "no-id"), "SANDBOX_007"),
        (as_alice, ("create", "Mine", "--guild", GUILD), "SANDBOX_007"),
        (as_bob, (*register, GUILD), "SANDBOX_010"),
        (as_alice, (*register, PROTECTED), "SANDBOX_010"),
    ):
        ended, on_screen = await on_terminal(shell, *arguments, answer="y")
        assert (ended, f"{code}: " in on_screen, "Go on?" in on_screen) == (1, True, False), on_screen
    assert [box["name"] for box in (await scene.shell.ok("list", "--json")).json["sandboxes"]] == ["diverted"]


async def test_whoever_takes_events_from_production_is_told_so_and_asked(scene: Scene) -> None:
    as_alice = scene.shell.having(SANDBOX_OWNER=ALICE)
    for arguments in (("create", "mine", "--guild", GUILD), ("register-guild", "diverted", GUILD)):
        code, on_screen = await on_terminal(as_alice, *arguments, answer="n")
        assert (code, "Nothing was changed." in on_screen) == (1, True), on_screen
        assert f"The live events of Cooks ({GUILD}) will go to {arguments[1]}" in on_screen
        sentence = "It is unknown whether events of Cooks went to production in the last 24 hours."
        assert sentence.replace("Cooks", f"Cooks ({GUILD})") in " ".join(on_screen.split())
    sandboxes = (await scene.shell.ok("list", "--json")).json["sandboxes"]
    assert [(box["name"], box["guild_ids"]) for box in sandboxes] == [("diverted", [])]
    code, on_screen = await on_terminal(as_alice, "create", "mine", "--guild", GUILD, answer="y")
    assert (code, "mine" in on_screen) == (0, True), on_screen
    assert (await scene.shell.ok("status", "mine", "--json")).json["sandbox"]["guild_ids"] == [GUILD]
    await scene.shell.ok("destroy", "mine", "--yes")


async def test_who_manages_a_server_may_take_its_events_back(scene: Scene) -> None:
    await scene.shell.ok("create", "of-bob", "--owner", BOB)
    await scene.operator.ok("register-guild", "of-bob", GUILD, "--yes")
    stranger = await scene.shell.having(SANDBOX_OWNER="200000000000000003")("unregister-guild", GUILD)
    assert stranger.err.startswith("SANDBOX_010: ")
    await scene.shell.having(SANDBOX_OWNER=ALICE).ok("unregister-guild", GUILD)
    await scene.shell.ok("destroy", "of-bob", "--yes")


async def test_the_bot_has_to_be_there(scene: Scene) -> None:
    absent = await scene.operator("register-guild", "diverted", "399999999999999999", "--yes")
    assert absent.code == 1
    assert absent.err.startswith("SANDBOX_007: The bot is not in the server 399999999999999999")


async def test_a_protected_server_needs_the_operator_and_its_id_twice(scene: Scene) -> None:
    as_alice = scene.shell.having(SANDBOX_OWNER=ALICE)
    for arguments in ((), ("--protected", PROTECTED)):
        refused = await as_alice("register-guild", "diverted", PROTECTED, "--yes", *arguments)
        assert refused.err.startswith("SANDBOX_010: ")
    unconfirmed = await scene.operator("register-guild", "diverted", PROTECTED, "--yes")
    assert (unconfirmed.code, unconfirmed.out) == (1, "")
    assert "--protected" in unconfirmed.err
    await scene.operator.ok("register-guild", "diverted", PROTECTED, "--yes", "--protected", PROTECTED)


async def test_create_takes_a_protected_server_for_the_bots_owner_only(scene: Scene) -> None:
    create = ("create", "guarded", "--yes", "--guild", GUILD, "--guild", PROTECTED)
    confirmed = (*create, "--protected", PROTECTED)
    refused = await scene.shell.having(SANDBOX_OWNER=ALICE)(*confirmed)
    assert (refused.code, refused.out) == (1, "")
    # The way out that is offered exists: see the test above.
    assert f"`sandboxctl register-guild NAME {PROTECTED} --protected {PROTECTED}`" in refused.err

    as_owner = scene.shell.having(SANDBOX_OWNER=BOB, DISCORD_OWNER_IDS=BOB)
    for arguments in (create, (*create, "--protected", GUILD)):
        unconfirmed = await as_owner(*arguments)
        assert (unconfirmed.code, unconfirmed.out) == (1, "")
        assert f"`--protected {PROTECTED}`" in unconfirmed.err
    code, on_screen = await on_terminal(as_owner, *(each for each in create if each != "--yes"), answer="y")
    assert (code, "SANDBOX_010: " in on_screen, "Go on?" in on_screen) == (1, True, False), on_screen
    assert len((await scene.shell.ok("list", "--json")).json["sandboxes"]) == 1
    done = (await as_owner.ok(*confirmed, "--json")).json
    assert (done["sandbox"]["owner"], done["sandbox"]["guild_ids"]) == (BOB, [GUILD, PROTECTED])
    await as_owner.ok("destroy", "guarded", "--yes")


async def test_the_bots_owner_may_act_on_everybodys_sandboxes(scene: Scene) -> None:
    refused = await scene.shell.having(SANDBOX_OWNER=BOB)("extend", "diverted", "1h")
    assert refused.err.startswith("SANDBOX_010: ")
    await scene.shell.having(SANDBOX_OWNER=BOB, DISCORD_OWNER_IDS=BOB).ok("extend", "diverted", "1h")
    entries = (await scene.shell.ok("audit", "diverted", "--json")).json["entries"]
    assert f" for {BOB}" in entries[-1]["actor"]


async def test_without_a_token_only_the_operator_vouches(scene: Scene, shell: Shell) -> None:
    refused = await shell("register-guild", "diverted", GUILD, "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert "DISCORD_TOKEN" in refused.err
    vouched = shell.having(SANDBOX_OWNER=ALICE)
    assert (await vouched("register-guild", "diverted", GUILD, "--yes", "--unchecked")).code == 2
    await shell.ok("register-guild", "diverted", GUILD, "--yes", "--unchecked")


async def test_discord_away_or_refusing(scene: Scene) -> None:
    away = scene.shell.having(DISCORD_API_URL="http://127.0.0.1:1/api/v10")
    ended = await away("register-guild", "diverted", GUILD, "--yes")
    assert ended.code == 3
    assert ended.err.startswith("SANDBOX_012: Discord is unavailable")
    refused = await scene.shell.having(DISCORD_TOKEN="another")("register-guild", "diverted", GUILD, "--yes")
    assert (refused.code, "DISCORD_TOKEN" in refused.err) == (2, True)


async def test_doctor_asks_discord(scene: Scene) -> None:
    looked = await scene.shell.having(
        DISCORD_DEV_GUILD_IDS=f"{GUILD},399999999999999999", DISCORD_PRIVILEGED_INTENTS="message_content"
    )("doctor", "--json")
    assert looked.code == 1
    check("doctor", looked.json)
    details = {each["detail"]: each["state"] for each in looked.json["checks"] if each["area"] == "Discord"}
    assert details[f"the bot is in the dev server {GUILD}, and may have its commands there"] == "ok"
    assert details["the bot is not in the dev server 399999999999999999"] == "failed"
    assert any("message_content" in detail for detail in details)
    refused = await scene.shell.having(DISCORD_TOKEN="another")("doctor")
    assert refused.code == 1
    assert "the token is refused" in refused.out
