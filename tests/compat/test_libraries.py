"""Bots on libraries that nobody here wrote, each in its sandbox, with real processes of the endpoint."""

from __future__ import annotations

import signal

from discord_sim import SimTimeout
from tests.e2e.harness import eventually
from tests.e2e.programs import program
from tests.gateway_endpoint.calls import names
from tests.gateway_endpoint.stage import until

from .libraries import Library
from .place import MEMBERS, WITHIN, LibrarysBot, Place


def written(place: Place, bot: LibrarysBot) -> list[str]:
    """What the bot wrote by itself in its small server's channel."""
    messages = place.sim.world.messages.get(bot.guild.default_channel.id, {}).values()
    return [each.content for each in messages if each.author.id == place.sim.bot_user.id]


async def _answers(place: Place, bot: LibrarysBot) -> bool:
    try:
        await place.sim.slash(place.alice, bot.guild.default_channel, "echo", text="first", timeout=5)
    except SimTimeout:
        return False
    return True


async def test_ready(place: Place, bot: LibrarysBot) -> None:
    """READY has exactly its servers; what it registers globally is in those, and nowhere else."""
    assert (await bot.says("ready"))[0] == sorted([str(bot.guild.id), str(bot.large.id)])
    for guild in (bot.guild, bot.large):
        await until(lambda guild=guild: names(place.sim, guild) == ["ask", "echo", "slow"], within=WITHIN)
    assert names(place.sim, place.foreign) == []
    # A library may answer a little later than it has registered.
    await eventually(lambda: _answers(place, bot))
    assert "Note:" not in bot.program.errors


async def test_reply(place: Place, bot: LibrarysBot) -> None:
    """A message is answered."""
    place.sim.message(bot.guild, content="ping")
    await until(lambda: "pong" in written(place, bot), within=WITHIN)


async def test_slash(place: Place, bot: LibrarysBot) -> None:
    """A command is answered, in both servers; another is deferred and followed up."""
    for guild in (bot.guild, bot.large):
        answer = await place.sim.slash(place.alice, guild.default_channel, "echo", text="this")
        assert answer.content == "echo this"
    later = await place.sim.slash(place.alice, bot.guild.default_channel, "slow")
    assert later.deferred
    assert later.text == "at last"


async def test_button(place: Place, bot: LibrarysBot) -> None:
    """A button opens a form, and the form is answered."""
    question = await place.sim.slash(place.alice, bot.guild.default_channel, "ask")
    opened = await place.sim.click(question, place.alice, label="Open")
    sent = await place.sim.submit_modal(opened, place.alice, {"text": "filled in"})
    assert sent.content == "form filled in"


async def test_file(place: Place, bot: LibrarysBot) -> None:
    """A file is uploaded."""
    place.sim.message(bot.guild, content="file")
    there = place.sim.world.messages[bot.guild.default_channel.id]
    await until(lambda: any(each.files for each in there.values()), within=WITHIN)
    (file,) = (file for each in there.values() for file in each.files)
    assert (file.filename, file.content) == ("notes.txt", b"from the bot")


async def test_foreign(place: Place, bot: LibrarysBot) -> None:
    """A channel of another server is refused as Discord refuses it."""
    place.sim.message(bot.guild, content=f"elsewhere {place.foreign.default_channel.id}")
    assert await bot.says("refused") == [["403", "50001"]]
    there = place.sim.world.messages.get(place.foreign.default_channel.id, {}).values()
    assert all(each.author.id != place.sim.bot_user.id for each in there)


async def test_members(place: Place, bot: LibrarysBot) -> None:
    """The members of a large server come in chunks."""
    place.sim.message(bot.large, content="members")
    # The owner, Alice, and the bot are members as well.
    assert await bot.says("members") == [[str(MEMBERS + 3)]]


async def test_own(place: Place, bot: LibrarysBot) -> None:
    """With all bots running, each sees the events of its own servers only; nobody sees production's."""
    bots = await place.all_running()
    place.happen(*bots, count=10)
    place.sim.message(place.foreign, content="event of-production")
    place.happen(bot)
    for each in bots:
        await each.has_seen_all()


async def test_switch(place: Place, bot: LibrarysBot) -> None:
    """A server that is registered for a while is there for as long, with exactly its events of that time."""
    for _ in range(2):
        place.sim.message(bot.later, content="event before")
        await place.stage.register(bot.sandbox.name, bot.later)
        place.happen(bot, count=5, later=True)
        place.happen(bot)
        await place.stage.unregister(bot.later)
        place.sim.message(bot.later, content="event after")
        place.happen(bot)
    await bot.has_seen_all()


async def test_cut(place: Place, bot: LibrarysBot) -> None:
    """After a cut connection come exactly the events that were missed."""
    ready, resumed = len(bot.all_said("ready")), len(bot.all_said("resumed"))
    place.happen(bot, count=20)
    place.front.cut()
    place.happen(bot, count=20)
    await bot.says("resumed", resumed + 1)
    place.happen(bot)
    await bot.has_seen_all()
    assert len(bot.all_said("ready")) == ready


async def _ended(place: Place, bot: LibrarysBot, end: signal.Signals) -> None:
    """End the process that has the connections: it goes on at the other, with exactly the missed events."""
    ready, resumed = len(bot.all_said("ready")), len(bot.all_said("resumed"))
    first, second = place.front.ports
    ending = place.processes[first]
    place.happen(bot, count=20)
    ending.signal(end)
    place.happen(bot, count=20)
    await bot.says("resumed", resumed + 1)
    place.happen(bot)
    await bot.has_seen_all()
    assert len(bot.all_said("ready")) == ready
    assert await ending.exit_code() == (0 if end is signal.SIGTERM else -end)
    assert "Traceback" not in ending.errors
    # What is new stays where the connections are now.
    place.front.ports = [second, first]
    await place.start_process(first)


async def test_killed(place: Place, bot: LibrarysBot) -> None:
    await _ended(place, bot, signal.SIGKILL)


async def test_restart(place: Place, bot: LibrarysBot) -> None:
    """A planned end: op 7, while the listener is open."""
    await _ended(place, bot, signal.SIGTERM)


async def test_refused(place: Place, bot: LibrarysBot) -> None:
    """Where a connection is refused a library does as at Discord; some begin anew, and miss events."""
    ready, resumed = len(bot.all_said("ready")), len(bot.all_said("resumed"))
    does = bot.library.refused
    with place.alone(bot), place.front.refusing():
        place.front.cut()
        if does == "resumes":
            place.happen(bot, count=5)
        await place.stage.published()
        await until(lambda: place.front.refused > 1 or not bot.program.running, within=WITHIN)
    if does == "resumes":
        await bot.says("resumed", resumed + 1)
        assert len(bot.all_said("ready")) == ready
    elif does == "begins anew":
        await bot.says("ready", ready + 1)
    else:
        await bot.program.exit_code()
        await place.all_running()
    place.happen(bot, count=5)
    await bot.has_seen_all()


async def test_op_9(place: Place, bot: LibrarysBot) -> None:
    """What the stream no longer has is said: the bot begins anew."""
    ready, resumed = len(bot.all_said("ready")), len(bot.all_said("resumed"))
    with place.front.held():
        place.front.cut()
        for number in range(5):
            place.sim.message(bot.guild, content=f"event lost-{number}")
        await place.forget(bot)
    assert (await bot.says("ready", ready + 1))[ready] == sorted([str(bot.guild.id), str(bot.large.id)])
    assert len(bot.all_said("resumed")) == resumed
    place.happen(bot, count=5)
    await bot.has_seen_all()


async def test_token(place: Place, bot: LibrarysBot, library: Library) -> None:
    """A wrong token is refused."""
    before = await place.refused_tokens()
    variables = {
        "DISCORD_API_URL": f"{place.front.url}/api/v10",
        "DISCORD_GATEWAY_URL": f"ws{place.front.url.removeprefix('http')}/",
        "WRONG": place.stage.token(bot.sandbox)[:-4] + "AAAA",
    }
    words = ("exec", bot.sandbox.name, "--", "env", *(f"{k}={v}" for k, v in variables.items()))
    running = program(
        *("sandbox_bot", *words, *library.command(), "WRONG"),
        directory=place.directory,
        **place.settings | library.variables,
    )
    async with running as wrong:

        async def refused() -> bool:
            return await place.refused_tokens() > before

        await eventually(refused)
        assert "ready" not in wrong.output.split()


async def test_secrets(place: Place, bot: LibrarysBot) -> None:
    """No token is in what a process or a bot has printed."""
    shown = (
        bot.program.output + bot.program.errors + "".join(each.errors for each in place.processes.values())
    )
    for secret in (place.sim.token, place.stage.token(bot.sandbox)):
        assert secret not in shown
