"""The installed wheel beside a host's own `cogs` and `bot`, and what its packages promise."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sandbox_bot import __version__
from tests.packaging.conftest import Built, Environment, done, install_into
from tests.packaging.lock import ROOT, project

PACKAGES = {"discord_sim", "sandbox_bot", "sandbox_cogs", "sandbox_core"}

_GREETER = """
from discord.ext import commands


class Greeter(commands.Cog):
    @commands.command()
    async def hello(self, ctx):
        await ctx.send("hello")


async def setup(bot):
    await bot.add_cog(Greeter())
"""
_HOST = """
import asyncio
import json
import sys

import discord
from discord.ext import commands


async def main():
    async with commands.Bot(command_prefix="!", intents=discord.Intents.default()) as bot:
        await bot.load_extension("cogs.greeter")
        await bot.load_extension("sandbox_cogs")
        told = {"extensions": sorted(bot.extensions), "own": bot.get_cog("Greeter") is not None}
        dev = discord.Object(100000000000000001)
        told["commands"] = sorted(command.name for command in bot.tree.get_commands(guild=dev))
        await bot.unload_extension("sandbox_cogs")
        told["left"] = sorted(bot.extensions)
        print(json.dumps(told))


asyncio.run(main())
"""
_OURS = ["sandbox_cogs", *(f"sandbox_cogs.{name}" for name in ("gateway", "owner", "sandbox", "upkeep"))]


def _with_init(folder: Path) -> list[str]:
    (folder / "cogs" / "__init__.py").touch()
    (folder / "host.py").write_text(_HOST)
    return ["host.py"]


def _without_init(folder: Path) -> list[str]:
    (folder / "host.py").write_text(_HOST)
    return ["host.py"]


def _as_module(folder: Path) -> list[str]:
    (folder / "bot.py").write_text(_HOST)
    return ["bot.py"]


def _as_package(folder: Path) -> list[str]:
    (folder / "bot").mkdir()
    (folder / "bot" / "__init__.py").touch()
    (folder / "bot" / "__main__.py").write_text(_HOST)
    return ["-m", "bot"]


HOSTS = {
    "cogs with __init__": _with_init,
    "cogs without __init__": _without_init,
    "bot.py": _as_module,
    "bot package": _as_package,
}


@pytest.fixture
def surroundings(database_url: str, redis_url: str, nats_url: str) -> dict[str, str]:
    """The environment of a host's process, with the servers in it."""
    return {"PATH": os.defpath, "DATABASE_URL": database_url, "REDIS_URL": redis_url, "NATS_URL": nats_url}


@pytest.mark.parametrize(
    ("kind", "python_path"),
    [
        ("cogs with __init__", None),
        ("cogs without __init__", "."),
        ("bot.py", None),
        ("bot.py", "."),
        ("bot package", "."),
    ],
)
def test_a_hosts_extensions_and_ours_load(
    kind: str,
    python_path: str | None,
    installed: Environment,
    tmp_path: Path,
    surroundings: dict[str, str],
) -> None:
    (tmp_path / "cogs").mkdir()
    (tmp_path / "cogs" / "greeter.py").write_text(_GREETER)
    arguments = HOSTS[kind](tmp_path)
    environment = {
        **surroundings,
        "DISCORD_DEV_GUILD_IDS": "100000000000000001",
        **({} if python_path is None else {"PYTHONPATH": python_path}),
    }
    # Before it stand the log's lines.
    *_, told = done([installed.program("python"), *arguments], tmp_path, **environment).splitlines()
    assert json.loads(told) == {
        "extensions": ["cogs.greeter", *_OURS],
        "own": True,
        "commands": ["sandbox"],
        "left": ["cogs.greeter"],
    }


@pytest.mark.parametrize("kinds", [("cogs with __init__", "bot.py"), ("bot package",)])
def test_sandboxctl_works_beside_a_hosts_own_modules(
    kinds: tuple[str, ...],
    installed: Environment,
    tmp_path: Path,
    surroundings: dict[str, str],
) -> None:
    """In a folder that Python searches, too, with everything in it that a host may have beside the others."""
    (tmp_path / "cogs").mkdir()
    (tmp_path / "cogs" / "greeter.py").write_text(_GREETER)
    for kind in kinds:
        HOSTS[kind](tmp_path)
    environment = {**surroundings, "PYTHONPATH": "."}
    sandboxctl = installed.program("sandboxctl")
    assert json.loads(done([sandboxctl, "list", "--json"], tmp_path, **environment)) == {"sandboxes": []}


def test_the_wheel_has_our_packages_and_no_others(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
        metadata = next(name for name in names if name.endswith("/METADATA"))
        lines = wheel.read(metadata).decode().splitlines()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {Path(name).name for name in names if name.startswith("sandbox_bot/migrations/")} == {
        path.name for path in (ROOT / "migrations").iterdir()
    }
    assert f"Version: {__version__}" in lines
    assert "Requires-Python: >=3.11" in lines


def test_the_sdist_gives_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    done([sys.executable, "-m", "hatchling", "build", "--target", "wheel"], source)
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as again, zipfile.ZipFile(built.wheel) as first:
        assert {item.filename: item.CRC for item in again.infolist()} == {
            item.filename: item.CRC for item in first.infolist()
        }
    assert {"Makefile", "tests", "docs", "deploy", "requirements-dev.lock"} <= {
        path.name for path in source.iterdir()
    }


def test_the_examples_are_typed_strictly(installed: Environment, built: Built, tmp_path: Path) -> None:
    for name in ("plugin_example.py", "worker_example.py"):
        shutil.copy(built.checkout / "docs" / name, tmp_path)
    stubs = next(
        line.split(" ")[0]
        for line in (ROOT / "requirements-dev.lock").read_text().splitlines()
        if line.startswith("asyncpg-stubs==")
    )
    install_into(installed, "--no-deps", stubs)
    checked = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed.program("python")]
    printed = done([*checked, "plugin_example.py", "worker_example.py"], tmp_path, PATH=os.defpath)
    assert "Success" in printed


@pytest.mark.parametrize("module", ["sandbox_core.context", "sandbox_core.settings"])
def test_a_workers_import_is_light(module: str, installed: Environment, tmp_path: Path) -> None:
    asked = f"import sys, {module}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    loaded = set(done([installed.program("python"), "-c", asked], tmp_path, PATH=os.defpath).split())
    assert "sandbox_core" in loaded
    assert loaded & {"discord", "typer", "sandbox_bot", "sandbox_cogs"} == set()


def test_the_pythons_that_are_claimed_are_those_that_ci_can_run() -> None:
    written = project()["project"]
    claimed = {line for line in written["classifiers"] if "Python :: 3." in line}
    assert claimed == {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)}
    assert written["requires-python"] == ">=3.11"
