"""What people can do with a bot's commands, and what Discord's rules forbid the bot."""

from __future__ import annotations

import aiohttp
import discord
import pytest

from discord_sim import (
    DiscordSim,
    SimBadOption,
    SimForbidden,
    SimGuild,
    SimNotConnected,
    SimTimeout,
    SimUnknownCommand,
    SimUser,
)
from discord_sim.control import ControlApi
from tests.sim.conftest import ConnectRaw, ManualClock, StartBot
from tests.sim.example_bot import PlainBot

MANAGE_GUILD = discord.Permissions(manage_guild=True).value


@pytest.fixture
async def bot(start: StartBot, guild: SimGuild) -> PlainBot:
    """A ready bot with its commands synced."""
    client = PlainBot(guild.id)
    await start(client)
    return client


async def test_the_control_endpoint_can_wait_for_a_later_text(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot
) -> None:
    sim.control = ControlApi(sim).serve
    body = {"user": alice.name, "guild": str(guild.id), "path": "sandbox twice", "timeout": 60}
    async with aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{sim.port}/_sim/slash"
        async with http.post(url, json={**body, "until": ["never", "second"]}) as answer:
            assert "second" in (await answer.json())["text"]
        async with http.post(url, json={**body, "until": ["never"], "timeout": 0.2}) as answer:
            assert (answer.status, (await answer.json())["error"]) == (400, "SimTimeout")


async def test_deferred_command_with_followup(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot
) -> None:
    result = await sim.slash(alice, guild.default_channel, "sandbox create", name="mine", hours=2)
    assert result.ephemeral
    assert result.deferred
    assert result.answered
    assert 0 <= result.responded_in_seconds < 3
    assert [e["title"] for e in result.embeds] == ["Made mine"]
    await result.wait_until(lambda r: len(r.followups) == 1)
    assert result.text.splitlines() == [
        "Made mine",
        "It is running",
        "Hours: 2",
        "by the sandbox bot",
        "one more",
    ]
    created = [f for f in sim.sent if f.type == "MESSAGE_CREATE"]
    assert [f.guild_id for f in created] == [None, None], "ephemeral messages name no guild"
    assert all(b"guild_id" not in f.raw.replace(b'"guild_id":null', b"") for f in created)


async def test_buttons_selects_and_forms(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot
) -> None:
    result = await sim.slash(alice, guild.default_channel, "sandbox create", name="mine")
    assert [b["label"] for b in result.buttons] == ["Confirm", "Later", "Ask", "Off"]
    later = await sim.click(result, alice, label="Later")
    assert later.updated
    assert later.content == "edited later"
    picked = await sim.select(result, alice, ["One"])
    assert picked.content == "picked ['1']"
    assert picked.ephemeral
    form = await sim.click(result, alice, custom_id="ask")
    assert form.modal is not None
    assert form.modal["title"] == "Rename"
    with pytest.raises(SimBadOption, match="required"):
        await sim.submit_modal(form, alice)
    renamed = await sim.submit_modal(form, alice, {"name": "new"})
    assert renamed.content == "renamed to new"
    assert not renamed.ephemeral
    with pytest.raises(SimForbidden, match="disabled"):
        await sim.click(result, alice, label="Off")
    with pytest.raises(SimForbidden, match="does not see"):
        await sim.click(result, sim.add_user("mallory"), label="Confirm")
    confirmed = await sim.click(result, alice, label="Confirm")
    assert confirmed.message is result.message
    assert result.content == "confirmed"
    assert result.components == []


async def test_autocomplete(sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot) -> None:
    offered = await sim.autocomplete(
        alice, guild.default_channel, "sandbox create", focused="name", value="pre"
    )
    assert offered == [("pre-0", "pre0"), ("pre-1", "pre1")]
    with pytest.raises(SimBadOption, match="no autocomplete"):
        await sim.autocomplete(alice, guild.default_channel, "sandbox create", focused="hours", name="x")


async def test_every_option_type(sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot) -> None:
    role = guild.add_role("mods")
    bob = sim.add_user("bob")
    guild.add_member(bob, permissions=MANAGE_GUILD)
    result = await sim.slash(
        alice,
        guild.default_channel,
        "types",
        text="t",
        whole=3,
        yes=True,
        who=bob,
        where=guild.default_channel,
        role=role,
        real=1.5,
        either=role,
        file=("a.txt", b"inside"),
        colour="Red",
    )
    assert result.content == "t 3 True bob True general mods 1.5 mods inside r"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "'name' is required"),
        ({"name": 3}, "takes a string"),
        ({"name": "x", "hours": "2"}, "takes an integer"),
        ({"name": "x", "hours": 0}, "not within 1..168"),
        ({"name": "x", "nope": 1}, "no option 'nope'"),
    ],
)
async def test_options_that_do_not_fit(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot, options: dict[str, object], why: str
) -> None:
    with pytest.raises(SimBadOption, match=why):
        await sim.slash(alice, guild.default_channel, "sandbox create", values=options)


async def test_who_is_not_offered_a_command(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot
) -> None:
    bob, stranger = sim.add_user("bob"), sim.add_user("stranger")
    guild.add_member(bob)
    with pytest.raises(SimForbidden, match="lacks the permissions"):
        await sim.slash(bob, guild.default_channel, "sandbox connect")
    guild.add_member(bob, permissions=MANAGE_GUILD)
    result = await sim.slash(bob, guild.default_channel, "sandbox connect")
    assert [(f.filename, f.description) for f in result.files] == [("sandbox.env", "settings")]
    assert result.files[0].text == "SANDBOX_ID=1\n"
    with pytest.raises(SimForbidden, match="not a member"):
        await sim.slash(stranger, guild.default_channel, "sandbox connect")
    elsewhere = sim.add_guild("elsewhere", owner=alice)
    with pytest.raises(SimUnknownCommand, match="not synced here"):
        await sim.slash(alice, elsewhere.default_channel, "sandbox connect")
    with pytest.raises(SimUnknownCommand, match="sandbox connect"):
        await sim.slash(alice, guild.default_channel, "sandbox nope")


async def test_missing_answers_are_noticed(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot
) -> None:
    with pytest.raises(SimTimeout, match="no answer"):
        await sim.slash(alice, guild.default_channel, "sandbox hang", timeout=0.1)
    # Long enough for what does come.
    with pytest.raises(SimTimeout, match="nothing followed"):
        await sim.slash(alice, guild.default_channel, "sandbox stall", timeout=3)
    stalled = await sim.slash(alice, guild.default_channel, "sandbox stall", wait=False)
    assert stalled.deferred
    assert not stalled.answered


async def test_edit_follow_up_and_delete(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, bot: PlainBot
) -> None:
    result = await sim.slash(alice, guild.default_channel, "sandbox twice")
    await result.wait_until(lambda r: r.message.deleted)
    assert result.message.content == "changed"
    assert [m.content for m in result.followups] == ["second"]


async def test_nobody_listens(sim: DiscordSim, guild: SimGuild, alice: SimUser) -> None:
    sim.world.commands.replace(guild.id, [{"name": "ping", "description": "x"}])
    with pytest.raises(SimNotConnected):
        await sim.slash(alice, guild.default_channel, "ping")


class Answerer:
    """Answers one interaction by hand, to break the rules."""

    def __init__(self, sim: DiscordSim, http: aiohttp.ClientSession, event: dict[str, str]) -> None:
        self._sim, self._http, self._event = sim, http, event

    async def callback(self, body: object, query: str = "") -> tuple[int, int | None]:
        """Status and error code of a first answer."""
        path = f"/interactions/{self._event['id']}/{self._event['token']}/callback{query}"
        return await self._post("POST", path, body)

    async def webhook(self, method: str, rest: str, body: object = None) -> tuple[int, int | None]:
        """Status and error code of a follow-up call."""
        path = f"/webhooks/{self._sim.application_id}/{self._event['token']}{rest}"
        return await self._post(method, path, body)

    async def _post(self, method: str, path: str, body: object) -> tuple[int, int | None]:
        async with self._http.request(method, self._sim.api_url + path, json=body) as answer:
            if answer.status == 204:
                return 204, None
            return answer.status, (await answer.json()).get("code")


async def test_rules_for_answers(clock: ManualClock, connect: ConnectRaw) -> None:
    async with DiscordSim(clock=clock) as sim, aiohttp.ClientSession() as http:
        alice = sim.add_user("alice")
        guild = sim.add_guild("g", owner=alice)
        sim.world.commands.replace(guild.id, [{"name": "ping", "description": "x"}])
        client = await connect(sim, identify=True)
        await client.until("GUILD_CREATE")

        async def interaction() -> Answerer:
            with pytest.raises(SimTimeout):
                await sim.slash(alice, guild.default_channel, "ping", timeout=0)
            return Answerer(sim, http, (await client.until("INTERACTION_CREATE"))[-1]["d"])

        pong = {"type": 4, "data": {"content": "pong"}}
        first = await interaction()
        assert await first.webhook("POST", "", {"content": "early"}) == (404, 10015)
        assert await first.callback({"type": 7, "data": {}}) == (400, 50035)
        assert await first.callback({"type": 4, "data": {}}) == (400, 50006)
        assert await first.callback(pong, "?with_response=true") == (200, None)
        assert await first.callback(pong) == (400, 40060)
        assert await first.webhook("GET", "/messages/@original") == (200, None)
        assert await first.webhook("GET", "/messages/1") == (404, 10008)
        clock.advance(15 * 60 + 1)
        assert await first.webhook("POST", "", {"content": "late"}) == (401, 50027)

        slow = await interaction()
        clock.advance(3.1)
        assert await slow.callback(pong) == (404, 10062)

        quick = await interaction()
        clock.advance(2.9)
        assert await quick.callback({"type": 5, "data": {"flags": 64}}) == (204, None)
        assert await quick.webhook("POST", "", {"content": "done", "flags": 0}) == (200, None)
        opened = list(sim.desk.by_id.values())[-1]
        assert opened.original is not None
        assert opened.original.content == "done"
        assert opened.original.ephemeral, "the deferral decides who sees the answer"
        assert opened.followups == []
        assert await quick.webhook("DELETE", "/messages/@original") == (204, None)
        assert await quick.webhook("PATCH", "/messages/@original", {"content": "x"}) == (404, 10008)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        # A name that points to this machine since the page was loaded.
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
async def test_no_page_of_another_origin_controls_it(sim: DiscordSim, headers: dict[str, str]) -> None:
    sim.control = ControlApi(sim).serve
    url = f"http://127.0.0.1:{sim.port}/_sim"
    own = {"Origin": f"http://127.0.0.1:{sim.port}", "Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession() as http:
        for method, path in (("POST", "flood"), ("GET", "state")):
            async with http.request(method, f"{url}/{path}", headers=headers, data="{}") as answer:
                assert answer.status == 403
        for right in ({}, own, {"Host": f"localhost:{sim.port}"}):
            async with http.get(f"{url}/state", headers=right) as answer:
                assert answer.status == 200
