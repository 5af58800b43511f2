"""The `make` commands of the documents, in a copy of the checkout, as they are written.

`make test`, `make bench` and `make chaos` are given the smallest of what they could do, through the `ARGS`
that the Makefile names; the whole of `make test` is what this is a part of.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from discord_sim import DiscordSim
from tests.docs.markdown import ROOT, blocks, inline_code, pages
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import Program, command

_WITH_A_TOKEN = "DISCORD_TOKEN=… DISCORD_DEV_GUILD_IDS=… make run"
_ENDS: Mapping[str, tuple[str, ...]] = {
    "make run": (),
    "make docs": (),
    "make setup": (),
    "make test": ("WORKERS=0", "ARGS=tests/unit/test_subjects.py"),
    "make test ALL=1": ("WORKERS=0", "ARGS=tests/unit/test_subjects.py"),
    "make bench": ("ARGS=create --quick",),
    "make chaos": ('ARGS=--only "close 4000" --seconds 1',),
}
"""Those that end by themselves, with what they are given besides."""
_STAYS_UP = "make run KEEP=1"
_BY_CI = "make check"
_BY_HAND = "make compat"
"""It installs what other people publish that day."""
MADE = {*_ENDS, _STAYS_UP, _BY_CI, _BY_HAND}
OTHER_PYTHON = "make test PYTHON=python3.13"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout; what has been installed and checked for this one counts for it, too."""
    copy = tmp_path_factory.mktemp("make") / "checkout"
    left_out = shutil.ignore_patterns(
        ".git",
        ".venv*",
        ".compat",
        ".local",
        ".coverage*",
        ".hypothesis",
        ".pytest_cache",
        "__pycache__",
        "build",
        "dist",
    )
    shutil.copytree(ROOT, copy, ignore=left_out)
    return copy


def _make(
    written: str, checkout: Path, *more: str, **environment: str
) -> AbstractAsyncContextManager[Program]:
    venv = Path(sys.prefix)
    return command(
        *written.split(),
        f"VENV={venv}",
        *(f"--old-file={venv / stamp}" for stamp in (".installed-to-run", ".installed")),
        *more,
        directory=checkout,
        **{"PATH": os.environ["PATH"], "HOME": str(checkout), **environment},
    )


@pytest.mark.parametrize("written", sorted(_ENDS))
async def test_a_target_that_ends(written: str, checkout: Path) -> None:
    pages_before = {page.name: page.read_text() for page in (checkout / "docs").glob("*.md")}
    async with _make(written, checkout, *_ENDS[written]) as running:
        code = await running.exit_code(within=300)
        assert code == 0, running.output + running.errors
    if written.startswith("make test"):
        assert re.search(r"^=+ \d+ passed.* in .* =+$", running.output, re.MULTILINE)
    assert {page.name: page.read_text() for page in (checkout / "docs").glob("*.md")} == pages_before


def test_ci_runs_it_as_it_is_written() -> None:
    """Strict types of everything take a tenth of a minute's work, and CI begins with them."""
    assert re.search(rf"^{_BY_CI}\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


async def test_a_run_that_stays_up(checkout: Path) -> None:
    async with _make(_STAYS_UP, checkout) as running:
        await eventually(lambda: "/metrics" in running.output or not running.running)
        running.look_at_family()
        (address,) = re.findall(r"(http://\S+)/readyz", running.output)
        assert (await get(address, "/readyz"))[0] == 200
        running.press_ctrl_c()
        await running.exit_code()
    assert "Traceback" not in running.output + running.errors


async def test_a_run_with_a_token(checkout: Path) -> None:
    port = free_port()
    async with DiscordSim() as sim:
        guild = sim.add_guild("dev", owner=sim.add_user("alice"))
        words = _WITH_A_TOKEN.split()
        assert [word.partition("=")[0] for word in words[:2]] == ["DISCORD_TOKEN", "DISCORD_DEV_GUILD_IDS"]
        given = {"DISCORD_TOKEN": sim.token, "DISCORD_DEV_GUILD_IDS": str(guild.id)}
        # Not written there: the Discord to log in to, and a port that no other test has.
        besides = {"DISCORD_API_URL": sim.api_url, "OPS_PORT": str(port)}
        async with _make(" ".join(words[2:]), checkout, **given, **besides) as running:

            async def ready() -> bool:
                assert running.running, running.errors
                return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200

            await eventually(ready)
            running.look_at_family()
            running.press_ctrl_c()
            await running.exit_code()
        assert "Traceback" not in running.errors
        assert sim.sessions[-1].last_client_close not in {None, 1000, 1001}
        assert (checkout / ".local").is_dir()


def test_every_command_of_make_is_here() -> None:
    spans = {span for page in pages() for span in inline_code(page)}
    scripts = [block.text for page in pages() for block in blocks(page)]
    lines = {line.partition("#")[0].strip() for script in scripts for line in script.splitlines()}
    written = {text for text in spans | lines if re.search(r"^make \S|\bmake run$", text)}
    assert written == {*MADE, OTHER_PYTHON, _WITH_A_TOKEN}
