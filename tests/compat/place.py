"""Where the libraries' bots live: a local Discord, two processes of the endpoint behind one address.

Each bot is a process below `sandboxctl exec`, in a sandbox of its own, and all run at the same time.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from discord_sim import DiscordSim, SimGuild, SimUser
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.models import Sandbox
from sandbox_core.subjects import SLOT_STREAM, slot_api
from tests.conftest import revive
from tests.e2e.harness import eventually, get
from tests.e2e.programs import Program, program
from tests.gateway_endpoint.front import Front, environment_of, front
from tests.gateway_endpoint.stage import Stage, staged, until
from tests.isolation.conftest import settings_of

from .libraries import Library, NotInstalled

WITHIN = 60.0
MEMBERS = 1200
_WORDS = ("ready", "resumed", "saw", "refused", "members")
_VARIABLE = "BOT_TOKEN"


def said_by(bot: Program) -> list[list[str]]:
    """Return what a bot said; its library may write beside it."""
    lines = (line.split() for line in bot.output.splitlines())
    return [words for words in lines if words and words[0] in _WORDS]


@dataclass
class LibrarysBot:
    """One library's bot, running."""

    library: Library
    sandbox: Sandbox
    guild: SimGuild
    large: SimGuild
    later: SimGuild
    """One that is registered for a while only."""
    program: Program
    known: list[str] = field(default_factory=list)
    """The events that it has to have seen, in their order."""

    @property
    def said(self) -> list[list[str]]:
        """What it said."""
        return said_by(self.program)

    def all_said(self, word: str) -> list[list[str]]:
        """What it said after this word."""
        return [words[1:] for words in self.said if words[0] == word]

    @property
    def seen(self) -> list[str]:
        """The events that it has seen."""
        return [words[0] for words in self.all_said("saw")]

    async def says(self, word: str, count: int = 1) -> list[list[str]]:
        """Return what it said, once it has said so for the `count`th time."""
        await self._until(lambda: len(self.all_said(word)) >= count)
        assert len(self.all_said(word)) >= count, (self.said[-5:], self.program.errors)
        return self.all_said(word)

    async def has_seen_all(self) -> None:
        """Wait for the last event; nothing was lost, nothing doubled, each server's in their order."""
        await self._until(lambda: len(self.seen) >= len(self.known))
        assert self.program.running, self.program.errors
        for guild in (self.guild, self.later):
            there = str(guild.id)
            seen, known = ([each for each in all_ if there in each] for all_ in (self.seen, self.known))
            assert seen == known, (seen[-50:], known[-50:])
        assert len(self.seen) == len(self.known)

    async def _until(self, what: Callable[[], bool]) -> None:
        """Wait for it, or for the program's end; whoever asks says then what is missing."""
        with suppress(TimeoutError):
            await until(lambda: what() or not self.program.running, within=WITHIN)


@dataclass
class Place:
    """Everything."""

    stage: Stage
    front: Front
    directory: Path
    stack: AsyncExitStack
    alice: SimUser
    foreign: SimGuild
    bots: dict[str, LibrarysBot] = field(default_factory=dict)
    processes: dict[int, Program] = field(default_factory=dict)
    """By their ports."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def sim(self) -> DiscordSim:
        return self.stage.sim

    @property
    def settings(self) -> dict[str, str]:
        """The variables of `sandboxctl`."""
        return environment_of(
            self.stage.settings,
            sandbox_gateway_url=self.front.url,
            sandbox_gateway_rest_per_second=50,
            sandbox_gateway_rest_per_sandbox=50,
        )

    async def start_process(self, port: int) -> None:
        """Start a process of the endpoint, and wait until it is ready."""
        settings = self.settings | {"SANDBOX_GATEWAY_PORT": str(port)}
        made = program("sandbox_bot", "gateway", directory=self.directory, **settings)
        process = self.processes[port] = await self.stack.enter_async_context(made)

        async def ready() -> bool:
            assert process.running, process.errors
            try:
                return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200
            except OSError:
                return False

        await eventually(ready)

    async def start_bot(self, library: Library) -> None:
        """Start this library's bot in a sandbox of its own; nothing, if the library is not installed."""
        try:
            library.command()
        except NotInstalled:
            return
        guilds = [self.sim.add_guild(f"{library.name} {size}") for size in ("small", "large", "later")]
        for number in range(MEMBERS):
            guilds[1].add_member(self.sim.add_user(f"{library.name} {number}"))
        for guild in guilds:
            guild.add_member(self.alice)
        sandbox = await self.stage.sandbox(library.name.replace(".", "-"), *guilds[:2])
        self.bots[library.name] = LibrarysBot(library, sandbox, *guilds, await self._exec(library, sandbox))

    async def _exec(self, library: Library, sandbox: Sandbox) -> Program:
        words = ("exec", "--token-variable", _VARIABLE, sandbox.name, "--", *library.command(), _VARIABLE)
        settings = self.settings | library.variables
        running = program("sandbox_bot", *words, directory=self.directory, **settings)
        return await self.stack.enter_async_context(running)

    async def all_running(self) -> Iterable[LibrarysBot]:
        """Start those again that have ended, as their library does when it is refused, and return all."""
        for bot in self.bots.values():
            if not bot.program.running:
                assert bot.library.refused == "ends", bot.program.errors
                bot.program, bot.known = await self._exec(bot.library, bot.sandbox), []
            await bot.says("ready")
        return self.bots.values()

    def happen(self, *bots: LibrarysBot, count: int = 1, later: bool = False) -> None:
        """Have events in each of these bots' small servers, or in those that are registered later."""
        for _ in range(count):
            for bot in bots:
                guild = bot.later if later else bot.guild
                bot.known.append(f"{guild.id}-{next(self._numbers)}")
                self.sim.message(guild, content=f"event {bot.known[-1]}")

    @contextmanager
    def alone(self, bot: LibrarysBot) -> Iterator[None]:
        """Have the other bots stand still in the body."""
        others = [each.program for each in self.bots.values() if each is not bot and each.program.running]
        for other in others:
            other.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for other in others:
                other.signal(signal.SIGCONT)

    async def refused_tokens(self) -> int:
        """How many calls with a wrong token the processes have refused."""
        pages = [(await get(f"http://127.0.0.1:{port}", "/metrics"))[1] for port in self.processes]
        line = re.compile(r'^sandbox_client_rest_refused_total\{reason="token"\} (\S+)$', re.MULTILINE)
        return sum(int(float(count)) for page in pages for count in line.findall(page))

    async def forget(self, bot: LibrarysBot) -> None:
        """Remove from the sandbox's stream what the bot has not read yet, but for the last event."""
        await self.stage.published()
        query = "SELECT slot FROM nats_slots WHERE sandbox_id = $1"
        slot = int(await self.stage.core.pool.fetchval(query, bot.sandbox.id))
        js = self.stage.core.sandbox_nats.client.jetstream(prefix=slot_api(slot))
        await js.purge_stream(SLOT_STREAM, keep=1)


@asynccontextmanager
async def place_for(
    servers: EmbeddedServers, libraries: Iterable[Library], directory: Path
) -> AsyncIterator[Place]:
    """The place, with the bots of these libraries, as far as they are installed."""
    for server in (
        *(servers.postgres, servers.valkey, servers.tenant_valkey, servers.nats, servers.tenant_nats),
    ):
        await revive(server)
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(DiscordSim(record=True, replay_limit=20_000))
        settings = settings_of(
            servers, discord_token=sim.token, discord_api_url=sim.api_url, sandbox_max_per_owner=50
        )
        foreign = sim.add_guild("foreign")
        stage = await stack.enter_async_context(staged(settings, sim, [foreign]))
        address = await stack.enter_async_context(front())
        place = Place(stage, address, directory, stack, sim.add_user("alice"), foreign)
        await asyncio.gather(*(place.start_process(port) for port in address.ports))
        for library in libraries:
            await place.start_bot(library)
        yield place
        for name, bot in place.bots.items():
            # For whoever looks why a test has failed.
            print(name, bot.said[-3:], bot.program.errors[-2000:])
