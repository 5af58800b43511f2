"""The pytest plugin, as somebody else's suite uses it: `docs/ci`, and what goes wrong there."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from discord_sim import DiscordSim
from tests.conftest import ROOT

from .conftest import ALICE, GUILD, Ended, Shell

USES = 'pytest_plugins = ["sandbox_bot.pytest_plugin"]\n'


class Suite:
    """A directory with somebody's tests, and a shell that runs them."""

    def __init__(self, shell: Shell, place: Path) -> None:
        self._shell = shell
        self.place = place

    async def run(self, **env: str | None) -> Ended:
        shell = self._shell.having(**env)
        words = (
            "-m",
            "pytest",
            str(self.place),
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(self.place),
        )
        return await shell.ended(await shell.program(sys.executable, *words), within=240.0)

    async def sandboxes(self) -> list[str]:
        listed = (await self._shell.ok("list", "--json")).json
        return [each["name"] for each in listed["sandboxes"]]

    async def recordings(self) -> list[str]:
        listed = (await self._shell.ok("recordings", "list", "--json")).json
        return [each["name"] for each in listed["recordings"]]


@pytest.fixture
async def suite(shell: Shell, tmp_path: Path) -> AsyncIterator[Suite]:
    async with DiscordSim() as sim:
        sim.add_guild("Cooks", id=int(GUILD), owner=sim.add_user("alice", id=int(ALICE)))
        talking = shell.having(
            DISCORD_TOKEN=sim.token,
            DISCORD_API_URL=sim.api_url,
            SANDBOX_OWNER=ALICE,
            SANDBOX_TEST_GUILDS=GUILD,
        )
        place = tmp_path / "suite"
        place.mkdir()
        yield Suite(talking, place)


async def test_the_documented_suite_passes_and_leaves_nothing(suite: Suite) -> None:
    shutil.copytree(ROOT / "docs" / "ci", suite.place, dirs_exist_ok=True)
    shutil.copy(ROOT / "docs" / "worker_example.py", suite.place.parent)
    ended = await suite.run()
    assert "2 passed" in ended.out, ended.out + ended.err
    assert (await suite.sandboxes(), await suite.recordings()) == ([], [])


async def test_a_test_that_fails_leaves_nothing_either(suite: Suite) -> None:
    (suite.place / "conftest.py").write_text(USES)
    (suite.place / "test_wrong.py").write_text(
        "def test_waits(sandbox):\n"
        "    with sandbox.running('sleep', '60'):\n"
        "        sandbox.until(lambda: sandbox.events() == 1, within=0.5)\n"
        "def test_types(sandbox):\n"
        "    sandbox.emit('MESSAGE_CRATE')\n"
        "def test_file(sandbox, tmp_path):\n"
        "    (tmp_path / 'x').write_text('nothing')\n"
        "    sandbox.replay(tmp_path / 'x')\n"
    )
    ended = await suite.run()
    assert "3 failed" in ended.out
    assert "It did not come true within 0.5 seconds; the last answer was False." in ended.out
    assert "Did you mean MESSAGE_CREATE" in ended.out
    assert "it is no JSON" in ended.out
    assert (await suite.sandboxes(), await suite.recordings()) == ([], [])


async def test_what_is_missing_is_said(suite: Suite) -> None:
    (suite.place / "conftest.py").write_text(USES)
    (suite.place / "test_any.py").write_text(
        "def test_any(sandbox):\n    assert sandbox.events() == sandbox.calls() == []\n"
    )
    ended = await suite.run(SANDBOX_OWNER=None)
    assert "Set SANDBOX_OWNER to a Discord user's id" in ended.out
    refused = await suite.run(SANDBOX_TEST_GUILDS="1")
    assert re.search("SANDBOX_00[0-9]", refused.out)
    assert "1 passed" in (await suite.run(SANDBOX_TEST_GUILDS=None)).out
    assert await suite.sandboxes() == []
