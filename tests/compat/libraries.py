"""The client libraries that the tests of ordinary bots know, and where each one is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
BOTS = Path(__file__).parent / "bots"
NODE = Path(__file__).parent / "node"
"""discord.js, by its lock file."""
ENVIRONMENTS = ROOT / ".compat"


Refused = Literal["resumes", "begins anew", "ends"]


class NotInstalled(Exception):
    """The library can't run here; the text says why."""


@dataclass(frozen=True)
class Library:
    """One library, and the bot on it.

    `requires` is what pip or npm installs into an environment of its own; nothing, if `make setup` does, or
    `make compat` by the lock file.
    """

    name: str
    bot: str
    requires: str = ""
    refused: Refused = "resumes"
    """What it does once its connection was refused."""

    @property
    def on_node(self) -> bool:
        return self.bot.endswith(".cjs")

    def version(self) -> str:
        """Return the version that is tried."""
        if self.requires:
            return re.split("[=@]+", self.requires)[1]
        if self.on_node:
            wanted: str = json.loads((NODE / "package.json").read_text())["dependencies"][self.name]
            return wanted
        return metadata.version(self.name)

    @property
    def place(self) -> Path:
        """The folder of its environment."""
        return ENVIRONMENTS / self.name

    @property
    def variables(self) -> dict[str, str]:
        """What the bot's program has to know besides: where Node finds the library."""
        return {"NODE_PATH": str(self.place / "node_modules")} if self.on_node else {}

    @property
    def _installed(self) -> Path:
        """Says which version is in its environment."""
        return self.place / "installed"

    def command(self) -> tuple[str, ...]:
        """Return the command that runs the bot. Raises `NotInstalled`."""
        bot = str(BOTS / self.bot)
        if not self.on_node:
            if not self.requires:
                return sys.executable, bot
            if not self._installed.exists():
                raise NotInstalled(f"{self.name} is not installed; `make compat` does it")
            return str(self.place / "bin" / "python"), bot
        node = shutil.which("node")
        if node is None or not self._installed.exists():
            raise NotInstalled(f"{self.name} needs Node, and `make compat`, which installs it")
        return node, bot

    def install(self) -> None:
        """Install it, unless this version is there."""
        if not self.requires and not self.on_node:
            return
        wanted = self.requires or (NODE / "package-lock.json").read_text()
        if self._installed.exists() and self._installed.read_text() == wanted:
            return
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        if not self.on_node:
            _run(sys.executable, "-m", "venv", str(self.place))
            _run(str(self.place / "bin" / "python"), "-m", "pip", "install", "--quiet", self.requires)
        elif self.requires:
            _npm("install", "--prefix", str(self.place), self.requires)
        else:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(NODE / name, self.place)
            _npm("ci", "--prefix", str(self.place))
        self._installed.write_text(wanted)


LIBRARIES = (
    Library("discord.py", "on_discord_py.py"),
    Library("hikari", "on_hikari.py"),
    Library("discord.js", "on_discord_js.cjs", refused="begins anew"),
    Library("py-cord", "on_py_cord.py", "py-cord==2.8.1"),
    Library("nextcord", "on_nextcord.py", "nextcord==2.6.0"),
    Library("disnake", "on_disnake.py", "disnake==2.12.2"),
    Library("interactions.py", "on_interactions.py", "discord-py-interactions==5.16.0", "ends"),
    Library("eris", "on_eris.cjs", "eris@0.18.0"),
    Library("oceanic.js", "on_oceanic.cjs", "oceanic.js@1.15.0"),
)
IN_CI = tuple(library for library in LIBRARIES if not library.requires)


def chosen(names: str) -> tuple[Library, ...]:
    """Return the libraries of these names, with spaces between; without any, those of CI."""
    return tuple(each for each in LIBRARIES if each.name in names.split()) or IN_CI


def _npm(*words: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("there is no `npm`, which installs it")
    _run(npm, *words, "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error")


def _run(*words: str) -> None:
    subprocess.run(words, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})


if __name__ == "__main__":
    for each in IN_CI:
        each.install()
