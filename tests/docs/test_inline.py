"""Commands within sentences and tables: each is run, or has its reason in `NOT_RUN`.

What stands for a value there (`NAME`, `SERVER_ID`, ...) is given one. The fenced blocks are those of
test_commands.py, and lines for Docker Compose those of test_compose_lines.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox_bot import __version__
from sandbox_bot.cli.connect import Format
from sandbox_cogs.sandbox._group import SandboxCommands
from tests.deploy.tools import needed
from tests.docs.command_tree import commands, options_of
from tests.docs.conftest import DEVELOPER, GUILD, OTHER_GUILD, Place
from tests.docs.markdown import ROOT, blocks, inline_code, pages
from tests.docs.test_make import MADE, OTHER_PYTHON

_SANDBOX = "welcome-flow"
_VALUES = {
    "SERVER_ID": OTHER_GUILD,
    "COMMAND": "list",
    "DURATION": "1h",
    "LEVEL": "read_only",
    "TYPE": "MESSAGE_CREATE",
    "NAME": _SANDBOX,
    "ID": DEVELOPER,
}
_PROGRAMS = {"sandboxctl", "docker", "make", "pip", "eval", "unset", "curl", "psql", "python", "promtool"}

NOT_RUN: Mapping[str, str] = {
    "sandboxctl run": "every page is read with it running: see `Place.start_bot`",
    "sandboxctl status NAME --watch": "runs until it is stopped: tests/cli does that",
    "sandboxctl events NAME --follow": "the same: tests/gateway/test_followed.py does",
    "sandboxctl rotate NAME": "of sandboxes that the servers keep apart: tests/isolation does that",
    "sandboxctl share NAME USER_ID --use": "of sandboxes kept apart by the servers: tests/isolation does",
    "sandboxctl share NAME USER_ID": "tests/cli/test_share.py does, with a colleague",
    "sandboxctl unshare NAME USER_ID": "tests/cli/test_share.py does, with a colleague",
    "sandboxctl doctor --isolation": "of servers that keep sandboxes apart: tests/isolation does that",
    "sandboxctl run --embedded": "tests/packaging does, as installed",
    "sandboxctl gateway": "tests/gateway_endpoint does",
    "sandboxctl exec NAME -- python mybot.py": "tests/compat does",
    "sandboxctl create NAME --template shop": "tests/cli/test_reset.py does, with a directory of templates",
    "sandboxctl reset NAME --template T": "the same",
    "sandboxctl tour": "tests/packaging does, as installed",
    "sandboxctl tenant-nats": "tests/tenant_nats/test_configuration.py does, with a key",
    OTHER_PYTHON: ".ci/run does, on each Python of the machine",
    "pip install .": "test_the_checkout_can_be_installed",
    **dict.fromkeys(MADE - {"make test"}, "test_make.py does"),
}
_ASKS = re.compile(r"sandboxctl (?:register-guild|reset|destroy|unregister-guild --all)\b")
"""Without a terminal they need `--yes`."""

_INTO_SANDBOX = 'eval "$(sandboxctl connect NAME)"'


def _commands() -> list[str]:
    spans = {span for page in pages() for span in inline_code(page)}
    return sorted(span for span in spans if span.split()[0] in _PROGRAMS and " " in span)


def _script(command: str) -> str:
    filled = re.sub(r"\b[A-Z_]+\b", lambda word: _VALUES.get(word[0], word[0]), command)
    if command.startswith("unset"):
        # What is there to leave has to be entered before.
        return f"{_script(_INTO_SANDBOX)}; {filled}; ! env | grep ^SANDBOX_"
    if _ASKS.match(command):
        return f"{filled} --yes"
    if command == "sandboxctl connect":
        return f"SANDBOX_OWNER={DEVELOPER} {filled}"
    return filled


async def test_every_command_within_a_sentence(place: Place) -> None:
    await place.start_bot()
    named = [each for each in _commands() if not each.startswith("docker ")]
    assert set(named) >= NOT_RUN.keys()
    for command in [each for each in named if each not in NOT_RUN]:
        for sandbox in await place.core.manager.list():
            if sandbox.name != _SANDBOX:
                await place.core.manager.destroy(place.operator, sandbox.name)
        await place.sandbox(_SANDBOX)
        if "unregister" in command or "events emit" in command or "events replay" in command:
            await place.sandbox(_SANDBOX, OTHER_GUILD)
        await place.shell(_script(command))
    for sandbox in await place.core.manager.list():
        await place.core.manager.destroy(place.operator, sandbox.name)


def test_the_table_of_sandboxctl_names_what_exists() -> None:
    known = commands()
    table = [line for line in (ROOT / "docs" / "cli.md").read_text().splitlines() if line.startswith("| `")]
    rows = [row.split(" | ")[0].replace("\\|", "|") for row in table]
    synopses = [
        span
        for row in rows[: next(n for n, row in enumerate(rows) if "run [--embedded]" in row) + 1]
        for span in re.findall(r"`([^`]+)`", row)
    ]
    assert {synopsis.split()[0] for synopsis in synopses} == {
        name for name, command in known.items() if not command.hidden
    }
    for synopsis in synopses:
        assert set(re.findall(r"--[a-z-]+", synopsis)) <= options_of(synopsis.split()), synopsis
        for choices in re.findall(r"--format (\S+?)\]", synopsis):
            assert set(choices.split("|")) == {form.value for form in Format}


async def test_slash_commands_and_their_options_exist(place: Place) -> None:
    known = {
        command.name: {parameter.display_name for parameter in command.parameters}
        for command in SandboxCommands(place.core).commands
    }
    for page in pages():
        for span in inline_code(page):
            words = span.split()
            if words[0] != "/sandbox" or len(words) == 1:
                continue
            for name in " ".join(words[1:2] if ":" in span else words[1:]).split(", "):
                assert name in known, f"{page.name}: {span}"
            options = {word.split(":")[0] for word in words[2:] if ":" in word}
            assert options <= (known.get(words[1]) or set()), f"{page.name}: {span}"


async def test_what_the_owner_may_write_is_answered(place: Place) -> None:
    await place.start_bot()
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    section = guide.split("\n## Administration by direct message\n", 1)[1].split("\n## ", 1)[0]
    listed = re.search(r"writes to the bot directly:\n(.+?)\. Others", section, re.DOTALL)
    assert listed is not None
    for message in re.findall(r"`([^`]+)`", listed[1]):
        await place.sandbox(_SANDBOX)
        text = re.sub(r"\b[A-Z]+\b", lambda word: _VALUES.get(word[0], word[0]), message)
        (reply,) = await place.sim.dm(place.sim.owner, text, timeout=60, count=1)
        assert reply.content, message
        assert "SANDBOX_0" not in reply.content, f"{message}: {reply.content}"


async def test_fish_takes_the_environment(place: Place) -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "cli.md") if block.language == "fish"]
    fish = needed("fish", "fish")
    sandbox = await place.sandbox(_SANDBOX, GUILD)
    (place.directory / "enter.fish").write_text(f"{block.text}env\n")
    printed = await place.shell(f"{fish} --no-config enter.fish")
    assert f"SANDBOX_ID={sandbox.id}\n" in printed
    assert f"SANDBOX_GUILD_IDS={GUILD}\n" in printed


def test_the_checkout_can_be_installed(tmp_path: Path) -> None:
    """`pip install .`, without its dependencies, which are in this environment."""
    checkout, target = tmp_path / "checkout", tmp_path / "target"
    # Building leaves files behind, and is not to find those of the tests.
    left_out = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "dist")
    shutil.copytree(ROOT, checkout, ignore=left_out)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--quiet")
    _done([sys.executable, "-m", "pip", "install", ".", *offline, "--target", str(target)], checkout)
    environment = {"PYTHONPATH": str(target)}
    assert _done([str(target / "bin" / "sandboxctl"), "--version"], tmp_path, environment) == (
        f"sandboxctl {__version__}\n"
    )
    # Those are kept outside the packages.
    assert {path.name for path in (target / "sandbox_bot" / "migrations").iterdir()} == {
        path.name for path in (ROOT / "migrations").iterdir()
    }


def _done(command: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", sorted(NOT_RUN))
def test_what_is_not_run_is_still_written(command: str) -> None:
    assert command in _commands()
