"""A fresh sandbox for each test of a worker or a bot: `pytest_plugins = ["sandbox_bot.pytest_plugin"]`.

It runs `sandboxctl` in the test's environment, so it needs what that needs: the servers' addresses, and
Discord when a server is registered. Nothing imports this module unless a test suite names it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

_SANDBOXCTL = (sys.executable, "-m", "sandbox_bot")
_COMMAND_WITHIN = 120.0
_ENDS_WITHIN = 20.0
_LOOK_AGAIN_AFTER = 0.05

Json = dict[str, Any]


class CommandFailed(Exception):
    """`sandboxctl` said no; the text is what it wrote."""


@dataclass(frozen=True)
class TestedSandbox:
    """A sandbox of one test's own."""

    __test__ = False
    """Its name begins as a test's does."""

    name: str
    guild_ids: Sequence[str]
    variables: Mapping[str, str] = field(repr=False)
    """What `sandboxctl connect` shows: addresses, logins, and the token for an ordinary bot."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a worker; `SandboxContext.from_env` takes it."""
        return {**os.environ, **self.variables}

    def emit(self, event_type: str, *changes: str, count: int = 1) -> list[Json]:
        """Make an event; a change is as `d.content=hello`. Raises `CommandFailed`."""
        given = [word for change in changes for word in ("--set", change)]
        made = _json("events", "emit", self.name, event_type, *given, "--count", str(count))
        return list(made["emitted"])

    def replay(self, recording: str | Path, *, speed: str = "max", fresh: bool = False) -> list[Json]:
        """Send the events of a file that `recordings export` has written. Raises `CommandFailed`.

        The file's servers become the sandbox's, one to one in their order.
        """
        own = f"{self.name}-{token_hex(3)}"
        _sandboxctl("recordings", "import", str(recording), own)
        try:
            options = ("--to", self.name, "--speed", speed, *(("--fresh",) if fresh else ()))
            return list(_json("events", "replay", "--recording", own, *options)["replayed"])
        finally:
            _sandboxctl("recordings", "delete", own, "--yes")

    def events(self, *options: str) -> list[Json]:
        """Return the sandbox's last events, as `sandboxctl events NAME --json` shows them."""
        return [
            json.loads(line) for line in _sandboxctl("events", self.name, "--json", *options).splitlines()
        ]

    def calls(self) -> list[Json]:
        """Return what the sandbox's ordinary bot asked of Discord, as `sandboxctl calls` shows it."""
        return list(_json("calls", self.name)["calls"])

    @contextmanager
    def running(
        self, *command: str, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker or a bot in the sandbox as `sandboxctl exec` does; it is ended with SIGTERM."""
        words = (*_SANDBOXCTL, "exec", self.name, "--", *command)
        process = subprocess.Popen(words, env={**os.environ, **(env or {})})  # noqa: S603 - the test's own
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_ENDS_WITHIN)
            finally:
                process.kill()
                process.wait()

    def until(self, condition: Callable[[], Any], within: float = 30.0) -> Any:
        """Ask again and again until the answer is true, and return it; fail after so many seconds."""
        __tracebackhide__ = True
        end = time.monotonic() + within
        while True:
            if found := condition():
                return found
            if time.monotonic() > end:
                pytest.fail(f"It did not come true within {within:g} seconds; the last answer was {found!r}.")
            time.sleep(_LOOK_AGAIN_AFTER)


@pytest.fixture(scope="session")
def sandbox_owner() -> str:
    """Whose sandbox it is: a Discord user's id. Override it, or set SANDBOX_OWNER."""
    owner = os.environ.get("SANDBOX_OWNER", "")
    if not owner:
        pytest.fail("Set SANDBOX_OWNER to a Discord user's id, or override the fixture sandbox_owner.")
    return owner


@pytest.fixture(scope="session")
def sandbox_guilds() -> Sequence[str]:
    """The ids of the servers that each sandbox gets. Override it, or set SANDBOX_TEST_GUILDS (commas)."""
    found = os.environ.get("SANDBOX_TEST_GUILDS", "").split(",")
    return [each.strip() for each in found if each.strip()]


@pytest.fixture
def sandbox(sandbox_owner: str, sandbox_guilds: Sequence[str]) -> Iterator[TestedSandbox]:
    """A fresh sandbox with these servers. It is destroyed at the end, and expires if nobody comes to that."""
    name = f"test-{token_hex(4)}"
    with pytest.MonkeyPatch.context() as patched:
        # Every command of the test acts for the owner.
        patched.setenv("SANDBOX_OWNER", sandbox_owner)
        guilds = [word for each in sandbox_guilds for word in ("--guild", each)]
        _sandboxctl("create", name, "--ttl", "30m", *guilds, *(("--yes",) if guilds else ()))
        try:
            yield TestedSandbox(name, tuple(sandbox_guilds), _json("connect", name))
        finally:
            _sandboxctl("destroy", name, "--yes")


def _json(*arguments: str) -> Json:
    found: Json = json.loads(_sandboxctl(*arguments, "--json"))
    return found


def _sandboxctl(*arguments: str) -> str:
    __tracebackhide__ = True
    ended = subprocess.run(  # noqa: S603 - this interpreter's own sandboxctl
        (*_SANDBOXCTL, *arguments),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=_COMMAND_WITHIN,
        check=False,
    )
    if ended.returncode:
        raise CommandFailed(f"sandboxctl {' '.join(arguments)}:\n{ended.stderr.strip()}")
    return ended.stdout
