"""What happens on Discord during a scenario: a flood, odd events, and people using commands."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from discord_sim import DiscordSim, Frame, InteractionResult, SimError, SimGuild, SimMessage, SimUser
from discord_sim.flood import Flood

from .bots import ChaosError
from .sides import PRODUCTION, Sides

_DM_CHANNELS = 5
_CHOKING = 0.1
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANSWER_WITHIN = 12.0
# "Unavailable" and a failed cleanup may strike between the change and the answer; a rule's refusal can't.
_MAY_HAVE_ACTED = {"SANDBOX_012", "SANDBOX_006"}


class FloodTask:
    """MESSAGE_CREATEs of all guilds in turn, until stopped."""

    def __init__(self, sim: DiscordSim, guilds: list[SimGuild], rate: float) -> None:
        self._rate = rate
        # A run begins with the first guild, so each is a whole round.
        self._round = len(guilds)
        # Without "hold": events go on while the bot is away, as they do at Discord.
        self._flood = Flood(sim.world, sim.gateway, guilds=guilds, payload_bytes=1300, hold=False)
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        self.made = 0
        self.numbered = 0

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                report = await self._flood.run(self._round, self._rate)
            except SimError:
                # No session lives just now: what happens meanwhile reaches nobody, and is Discord's gap.
                await asyncio.sleep(self._round / self._rate)
                self.made += self._round
                continue
            self.made += report.sent
            self.numbered += report.frames

    @property
    def unheard(self) -> int:
        """Events that no session existed for."""
        return max(0, self.made - self.numbered)

    async def stop(self) -> None:
        """Return when the last event is sent."""
        self._stop.set()
        await self._task


class Oddities:
    """Events that a careless router puts on the wrong side, chokes on, or changes."""

    def __init__(
        self,
        sim: DiscordSim,
        guilds: list[SimGuild],
        chance: random.Random,
        rate: float,
        *,
        well_formed: bool = False,
    ) -> None:
        """`well_formed`: only what discord.py's parsers take, a fault in which ends a bot's connection."""
        self._sim = sim
        self._guilds = guilds
        self._chance = chance
        self._rate = rate
        self._well_formed = well_formed
        self.channel_of: dict[int, str] = {}
        """Where the direct messages are, by payload identity."""
        friends = [sim.add_user(f"friend-{number}") for number in range(_DM_CHANNELS)]
        self._channels = [str(sim.world.dm_channel(friend).id) for friend in friends]
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Make no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        kinds: list[Callable[[], list[Frame]]] = [
            self._ephemeral,
            self._direct_message,
            self._unknown_type,
            self._own_id,
        ]
        if not self._well_formed:
            kinds += [self._surrogate, self._someone_elses_command]
        while True:
            self._chance.choice(kinds)()
            await asyncio.sleep(1 / self._rate)

    def _two(self) -> tuple[SimGuild, SimGuild]:
        one, other = self._chance.sample(self._guilds, 2)
        return one, other

    def _message(self, guild: SimGuild, other: SimGuild) -> dict[str, Any]:
        """A message of this guild's channel without the guild's id, but with another guild's."""
        message = SimMessage(self._sim.world.snowflakes.next(), guild.default_channel, guild.owner)
        body = message.event()
        for key in ("guild_id", "member"):
            body.pop(key, None)
        body["message_reference"] = {
            "type": 0,
            "guild_id": str(other.id),
            "channel_id": "1",
            "message_id": "1",
        }
        return body

    def _ephemeral(self) -> list[Frame]:
        guild, other = self._two()
        body = self._message(guild, other)
        body["flags"] = 64
        return self._sim.emit("MESSAGE_CREATE", body)

    def _direct_message(self) -> list[Frame]:
        _, other = self._two()
        channel_id = self._chance.choice(self._channels)
        body = {**self._message(other, other), "channel_id": channel_id, "channel_type": 1}
        if not self._well_formed and self._chance.random() < _CHOKING:
            # discord.py's parser raises: the event is routed all the same, and the shard lives on.
            del body["author"]
        frames = self._sim.emit("MESSAGE_CREATE", body)
        for frame in frames:
            self.channel_of[id(frame.payload)] = channel_id
        return frames

    def _unknown_type(self) -> list[Frame]:
        guild, other = self._two()
        decoy = {"guild_id": str(other.id), "id": str(other.id)}
        body = {"message": decoy, "guild_id": str(guild.id), "member": decoy, "guild": decoy}
        return self._sim.emit("NEWLY_INVENTED_EVENT", body)

    def _own_id(self) -> list[Frame]:
        guild, other = self._two()
        return self._sim.emit("GUILD_INTEGRATIONS_UPDATE", {"guild_id": str(guild.id), "id": str(other.id)})

    def _surrogate(self) -> list[Frame]:
        guild, other = self._two()
        text = (
            f'{{"d":{{"guild_id":"{other.id}"}},"content":"\\ud83d \\u00e4","guild_id":"{guild.id}","n":1e3}}'
        )
        return self._sim.emit_raw(text.encode(), "MESSAGE_UPDATE", guild.id)

    def _someone_elses_command(self) -> list[Frame]:
        guild, other = self._two()
        body = {
            "id": str(self._sim.world.snowflakes.next()),
            "type": 2,
            "token": "t",
            "application_id": str(self._sim.application_id),
            "guild_id": str(guild.id),
            "channel_id": str(guild.default_channel.id),
            "data": {"id": "1", "name": "ping", "type": 1, "guild_id": str(other.id)},
        }
        return self._sim.emit("INTERACTION_CREATE", body)


class Unclear(ChaosError):
    """Nobody knows whether the command was carried out."""


class Operator:
    """A developer who uses `/sandbox` and writes down what the answers mean for the sides."""

    def __init__(self, sim: DiscordSim, dev: SimGuild, user: SimUser, sides: Sides) -> None:
        self._sim = sim
        self._dev = dev
        self._user = user
        self._sides = sides
        self.ids: dict[str, str] = {}
        """Running sandboxes: name to id."""
        self.reserved: set[str] = set()
        """Sandboxes that the commands at random leave alone."""
        self.outcomes: Counter[str] = Counter()
        self._numbers = 0

    async def create(self) -> str:
        """Make a sandbox; its name."""
        self._numbers += 1
        name = f"chaos-{self._numbers}"
        result = await self._slash("create", name=name)
        found = _ID.search(result.text)
        if found is None:
            self._count(result.text)
            raise Unclear(result.text)
        self.ids[name] = found.group()
        self.outcomes["ok"] += 1
        return name

    async def connect(self, name: str) -> dict[str, str]:
        """What the sandbox's owner is shown: its variables."""
        shown = (await self._slash("connect", name=name)).text
        return dict(re.findall(r'^export (\w+)="(.*)"$', shown, re.MULTILINE))

    async def ask(self, command: str, name: str) -> str:
        """What a command says of a sandbox that it does not change."""
        return (await self._slash(command, name=name)).text

    async def register(self, guild: SimGuild, name: str) -> bool:
        """Register a guild; True when it was."""

        async def work() -> str:
            result = await self._slash("register-guild", name=name, guild=str(guild.id))
            if "away from production" in result.text:
                label = result.buttons[0]["label"]
                # The question's message itself becomes the answer.
                result = await self._sim.click(result, self._user, label=label, timeout=_ANSWER_WITHIN)
                await result.wait_until(_is_answered, _ANSWER_WITHIN)
            return result.text

        return await self._change([guild], self.ids[name], work, "Server registered")

    async def unregister(self, guild: SimGuild) -> bool:
        """End a registration; True when it was ended."""

        async def work() -> str:
            return (await self._slash("unregister-guild", guild=str(guild.id))).text

        return await self._change([guild], PRODUCTION, work, "Server unregistered")

    async def destroy(self, name: str, guilds: list[SimGuild]) -> bool:
        """Destroy a sandbox whose guilds are these; True when it is gone."""

        async def work() -> str:
            asked = await self._slash("destroy", name=name)
            label = asked.buttons[0]["label"]
            result = await self._sim.click(asked, self._user, label=label, timeout=_ANSWER_WITHIN)
            await result.wait_until(
                lambda r: "is destroyed" in r.text or "SANDBOX_" in r.text, _ANSWER_WITHIN
            )
            return result.text

        self.ids.pop(name, None)
        return await self._change(guilds, PRODUCTION, work, "is destroyed")

    async def _change(
        self, guilds: list[SimGuild], side: str, work: Callable[[], Awaitable[str]], done: str
    ) -> bool:
        asked = time.time()
        try:
            text = await work()
        except (SimError, IndexError, KeyError, Unclear):
            # No answer in time, or one without the button: the bot is gone, or it may still act.
            text = ""
        if done in text:
            for guild in guilds:
                self._sides.changed(guild.id, side, asked, time.time())
            self.outcomes["ok"] += 1
            return True
        if self._count(text) != "refused":
            for guild in guilds:
                self._sides.changed(guild.id, side, asked, None)
            raise Unclear(text)
        return False

    def _count(self, text: str) -> str:
        code = re.search(r"SANDBOX_0\d\d", text)
        kind = (
            "refused"
            if code is not None and code.group() not in {"SANDBOX_012", "SANDBOX_006"}
            else "unclear"
        )
        self.outcomes[kind] += 1
        return kind

    async def _slash(self, command: str, **options: Any) -> InteractionResult:
        return await self._sim.slash(
            self._user,
            self._dev.default_channel,
            f"sandbox {command}",
            timeout=_ANSWER_WITHIN,
            values=options,
        )


def _is_gone(result: InteractionResult) -> bool:
    return "is destroyed" in result.text or "SANDBOX_" in result.text


def _is_answered(result: InteractionResult) -> bool:
    return "Server registered" in result.text or "SANDBOX_" in result.text


class Commands:
    """Registrations and their ends, and with `lives` whole sandboxes' lives, at a rate."""

    def __init__(
        self,
        operator: Operator,
        guilds: list[SimGuild],
        chance: random.Random,
        rate: float,
        *,
        lives: bool = False,
    ) -> None:
        self._operator = operator
        self._free = list(guilds)
        self._mapped: dict[int, str] = {}
        self._chance = chance
        self._rate = rate
        self._lives = lives
        self._running: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._run())

    def adopt(self, guild: SimGuild, name: str) -> None:
        """A guild that is registered already."""
        self._mapped[guild.id] = name

    async def stop(self) -> None:
        """Begin no more; return when the last one is answered."""
        self._task.cancel()
        await asyncio.gather(self._task, *self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(1 / self._rate)
            if self._free:
                guild = self._free.pop(self._chance.randrange(len(self._free)))
                task = asyncio.create_task(self._one(guild))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _one(self, guild: SimGuild) -> None:
        try:
            if self._lives and guild.id not in self._mapped:
                await self._whole_life(guild)
            elif (name := self._mapped.pop(guild.id, None)) is not None:
                await self._operator.unregister(guild)
            elif names := [each for each in self._operator.ids if each not in self._operator.reserved]:
                name = self._chance.choice(names)
                if await self._operator.register(guild, name):
                    self._mapped[guild.id] = name
        except (Unclear, SimError):
            # Whose the guild is now nobody knows, so it is left alone and may be on either side.
            return
        self._free.append(guild)

    async def _whole_life(self, guild: SimGuild) -> None:
        name = await self._operator.create()
        if await self._operator.register(guild, name):
            await asyncio.sleep(self._chance.uniform(0.1, 1.0))
            await self._operator.destroy(name, [guild])


def describe(outcomes: Counter[str]) -> str:
    """How the commands ended, in a few words."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items())) or "none"
