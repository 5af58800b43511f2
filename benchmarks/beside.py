"""Another version of the bot beside this one: CPU time per event, both in alternation, on the same ground.

Both stay up, each on servers and a simulator of its own, which are this checkout's for either side, and are
given the same number of events in turn, a fraction of a second each: whatever else the machine does meanwhile
concerns both. CPU time is read from outside. Each version is started by its own `benchmarks/contender.py`, in
this checkout's environment, so that nothing but the bot's code differs, unless the other's own is asked for.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path

from .flooded import ROOT, Code, ContenderError, Field, Process, field
from .report import Section, Spread

_EVENTS = 5_000
ROUNDS = 24
_BOT = "this bot"
_STORED_WITHIN = 120.0
_POLL = 0.02


class OtherError(Exception):
    """There is no other version to be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Other:
    """What to measure beside this checkout: a checkout, or a revision of this repository."""

    checkout: Path | None = None
    revision: str | None = None
    own_environment: bool = False
    rounds: int = ROUNDS

    async def measure(self, section: Section) -> None:
        """CPU time per event of both, and the ratio round by round."""
        with self._found() as (root, version):
            theirs = Code(root, _python(root) if self.own_environment else sys.executable, _roots(root))
            await _measure(section, theirs, version, section.size(self.rounds, 2))

    @contextmanager
    def _found(self) -> Iterator[tuple[Path, str]]:
        if self.checkout is not None:
            yield self.checkout.resolve(), _version(self.checkout)
            return
        revision = _git(ROOT, "rev-parse", "--verify", f"{self.revision}^{{commit}}")
        with tempfile.TemporaryDirectory(prefix="sandbox-beside-") as directory:
            root, packed = Path(directory) / "checkout", Path(directory) / "checkout.tar"
            _git(ROOT, "archive", "--output", str(packed), revision)
            with tarfile.open(packed) as tar:
                tar.extractall(root, filter="data")
            if self.own_environment:
                _run("make", "-C", str(root), "setup")
            yield root, revision[:7]


async def _measure(section: Section, theirs: Code, version: str, rounds: int) -> None:
    events = section.size(_EVENTS, 1_000)
    ours = Code(ROOT, sys.executable, _roots(ROOT))
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(_side(code, name))
            for code, name in (
                (ours, f"this checkout, {_version(ROOT)}"),
                (theirs, f"the other, {version}"),
            )
        ]
        for side in sides:
            await side.flood(events)
            side.cpu.clear()
        for number in range(rounds):
            for side in sides if number % 2 else reversed(sides):
                await side.flood(events)
    this, other = (Spread(tuple(side.cpu), 1) for side in sides)
    section.table(
        f"CPU time of two versions in alternation, {rounds} rounds of {events:,} events each",
        ("", "CPU us/event"),
        [
            *((side.name, spread) for side, spread in zip(sides, (this, other), strict=True)),
            ("this checkout over the other", f"{this.over(other)} x"),
        ],
    )
    section.note("After each round the streams held exactly the events sent, of either version.")


@dataclass
class _Side:
    """One version, running."""

    name: str
    ground: Field
    process: Process
    sent: int = 0
    cpu: list[float] = dataclass_field(default_factory=list)

    async def flood(self, events: int) -> None:
        """Send so many and wait until they are stored; note what one cost."""
        before = _cpu_seconds(self.process.process.pid)
        await self.ground.sim.post("flood", count=events)
        self.sent += events
        async with asyncio.timeout(_STORED_WITHIN):
            # Nothing is told when a stream grows.
            while (stored := sum((await self.ground.stored()).values())) < self.sent:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
        if stored > self.sent:
            raise ContenderError(f"{self.name}: {self.sent} were sent and {stored} are stored")
        self.cpu.append((_cpu_seconds(self.process.process.pid) - before) / events * 1e6)


@asynccontextmanager
async def _side(code: Code, name: str) -> AsyncIterator[_Side]:
    """The version on servers and a simulator of its own: both stay up, and neither has to share a shard."""
    async with field(guilds=500, mappings=250) as ground:
        await ground.clean(code)
        # More events than come: its own measurement is not what is wanted here.
        task = replace(ground.task, events=1 << 40)
        async with ground.contender(_BOT, task, code=code, looks=False) as process:
            yield _Side(name, ground, process)


def _cpu_seconds(pid: int) -> float:
    """Of all threads of the process. Linux counts it in nanoseconds."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except OSError as error:
        raise OtherError("CPU time of another process is measured on Linux only") from error


def _roots(root: Path) -> tuple[Path, ...]:
    """Where a checkout's packages are found: they have had other places and names."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text())
        packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise OtherError(
            f"{root} is no checkout of this project: its pyproject.toml names no packages"
        ) from error
    return tuple(dict.fromkeys([root, *((root / package).parent for package in packages)]))


def _python(root: Path) -> str:
    python = root / ".venv" / "bin" / "python"
    if not python.exists():
        raise OtherError(f"{root} has no environment of its own; make one there with: make setup")
    return str(python)


def _version(root: Path) -> str:
    try:
        changed = " with changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
        return _git(root, "rev-parse", "--short", "HEAD") + changed
    except OtherError:
        # A copy of a checkout has no history.
        return f"without a commit, in {root.name}"


def _git(root: Path, *arguments: str) -> str:
    return _run("git", "-C", str(root), *arguments)


def _run(*command: str) -> str:
    # As the user would run it: what a surrounding git or make has set is about another directory.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "MAKE", "MFLAGS"))}
    done = subprocess.run(  # noqa: S603 - git and make
        command, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise OtherError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
