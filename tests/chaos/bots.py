"""The real bot as processes that can be killed, stopped and replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import aiohttp

from tests.forked import ForkedProcess

ROOT = Path(__file__).resolve().parents[2]
_STARTED_WITHIN = 60.0
_ENDS_WITHIN = 15.0
RECOVERS_WITHIN = 40.0
"""How long anything may take to go on after a fault, in seconds."""


HOST = (sys.executable, "-m", "tests.publishers.host")
"""Somebody else's bot with the plugin in it."""
Process = asyncio.subprocess.Process | ForkedProcess
Start = Callable[[Mapping[str, str]], Awaitable[Process]]
"""Starts `sandboxctl run` in an environment, with standard error in its standard output."""


class ChaosError(Exception):
    """The run could not go on: not a figure, but a reason to call the scenario failed."""


async def until(condition: Callable[[], object], within: float, what: str) -> None:
    """Return when the condition holds. Raises `ChaosError` after `within` seconds."""
    try:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise ChaosError(f"{what}: not within {within:g} s") from None


class Bot:
    """One process. Its log is written to a file and counted by message."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.events: Counter[str] = Counter()
        self.ops_url = ""
        """Its ops endpoint, once it listens."""
        self._reader = asyncio.create_task(self._read())

    @property
    def running(self) -> bool:
        """True until the process has ended."""
        return self.process.returncode is None

    @property
    def ready(self) -> bool:
        """True once it said so."""
        return self.events["bot_ready"] > 0

    async def wait_ready(self) -> None:
        """Return when it is ready. Raises `ChaosError` with the end of its log when it is not."""
        try:
            await until(lambda: self.ready or not self.running, _STARTED_WITHIN, "a bot's start")
        except ChaosError as error:
            raise ChaosError(f"{error}\n{self.tail()}") from None
        if not self.ready:
            raise ChaosError(f"a bot ended while it started:\n{self.tail()}")

    async def failing(self) -> dict[str, str]:
        """What /readyz names, with its reason; the process must listen already."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.ops_url}/readyz") as response:
            said = await response.json()
        return {**said.get("missing", {}), **said.get("degraded", {})}

    async def is_ready(self) -> bool:
        """Whether /readyz says that events are taken."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.ops_url}/readyz") as response:
            return response.status == HTTPStatus.OK

    async def counted(self, counter: str) -> int:
        """What its metrics say of a counter, over all labels; 0 for a process without the endpoint."""
        if not self.ops_url:
            return 0
        async with aiohttp.ClientSession() as http, http.get(f"{self.ops_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(f"{counter}{{"))

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code; a process that does not end in time is killed."""
        if self.running:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                code = await self.process.wait()
        except TimeoutError:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()
            raise ChaosError(f"a bot did not end within {_ENDS_WITHIN:g} s of {number.name}") from None
        finally:
            await self._reader
        return code

    async def _read(self) -> None:
        stream = self.process.stdout
        if stream is None:
            raise RuntimeError("the output is piped")
        with self.log.open("ab", buffering=0) as log:
            while line := await stream.readline():
                log.write(line)
                try:
                    said = json.loads(line)
                    self.events[said["event"]] += 1
                    if said["event"] == "ops_listening":
                        self.ops_url = said["url"]
                except (ValueError, KeyError, TypeError):
                    # A traceback of the interpreter itself: it is in the file.
                    self.events["unreadable"] += 1


async def until_named(bot: Bot, part: str, word: str, within: float) -> None:
    """Return when /readyz names the part with the word in its reason."""
    said: dict[str, str] = {}
    try:
        async with asyncio.timeout(within):
            while word not in (said := await bot.failing()).get(part, ""):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ChaosError(f"/readyz does not name {part} with {word} within {within:g} s: {said}") from None


async def until_well(bot: Bot, within: float) -> None:
    """Return when /readyz names nothing any more."""
    said: dict[str, str] = {}
    try:
        async with asyncio.timeout(within):
            while said := await bot.failing():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ChaosError(f"/readyz names {said} {within:g} s later") from None


class Bots:
    """Every process of one scenario; those still alive at the end are killed."""

    def __init__(self, environment: Mapping[str, str], logs: Path, start: Start) -> None:
        self._start = start
        self._environment = dict(environment)
        self._logs = logs
        self.all: list[Bot] = []
        self.kills: list[float] = []
        """When processes were killed, in seconds since the epoch."""

    @property
    def running(self) -> list[Bot]:
        """Those alive, oldest first."""
        return [bot for bot in self.all if bot.running]

    async def start(self) -> Bot:
        """Start one more process and wait until it is ready."""
        bot = await self.launch({})
        await bot.wait_ready()
        return bot

    async def launch(self, environment: Mapping[str, str], start: Start | None = None) -> Bot:
        """Start one more process, with these settings besides those of all; it is not ready yet."""
        process = await (start or self._start)({**_inherited(), **self._environment, **environment})
        bot = Bot(process, self._logs / f"bot-{len(self.all)}.log")
        self.all.append(bot)
        return bot

    async def kill(self, bot: Bot) -> None:
        """SIGKILL, by process id."""
        self.kills.append(time.time())
        await bot.end(signal.SIGKILL)

    async def stop(self, bot: Bot) -> None:
        """SIGTERM. Raises `ChaosError` when it does not end well."""
        code = await bot.end(signal.SIGTERM)
        if code != 0:
            raise ChaosError(f"a bot ended with exit code {code} after SIGTERM:\n{bot.tail()}")


@asynccontextmanager
async def bots(environment: Mapping[str, str], logs: Path, start: Start) -> AsyncIterator[Bots]:
    """Starts none; ends all."""
    running = Bots(environment, logs, start)
    try:
        yield running
    finally:
        for bot in running.running:
            await bot.end(signal.SIGKILL)


async def start_program(environment: Mapping[str, str]) -> Process:
    """`python -m sandbox_bot run`."""
    return await start_words((sys.executable, "-m", "sandbox_bot", "run"), environment)


async def start_host(environment: Mapping[str, str]) -> Process:
    """A bot of somebody else's, with the plugin in it."""
    return await start_words(HOST, environment)


async def start_words(words: Sequence[str], environment: Mapping[str, str]) -> Process:
    """Start a program of this checkout."""
    return await asyncio.create_subprocess_exec(
        *words,
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )


def _inherited() -> dict[str, str]:
    """The environment without settings of this project."""
    ours = ("DISCORD_", "SANDBOX_", "NATS_", "ROUTER_", "EVENTS_", "OPS_", "LOG_", "DATABASE_", "REDIS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
