"""The wheel of this checkout, and environments with nothing in them but what a test installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.lock import ROOT

# Building leaves nothing in the checkout, and finds nothing there that is not the project's.
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", ".local", ".*_cache", ".hypothesis", "__pycache__", "dist"
)


@dataclass(frozen=True)
class Built:
    """What is built of the project, and the copy of the checkout that it is built from."""

    checkout: Path
    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Environment:
    """An environment of Python with the wheel in it."""

    prefix: Path

    def program(self, name: str) -> str:
        """The path of `python` or of a console script."""
        return str(self.prefix / "bin" / name)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel and the sdist of this checkout."""
    checkout = tmp_path_factory.mktemp("build") / "checkout"
    shutil.copytree(ROOT, checkout, ignore=_LEFT_OUT)
    done([sys.executable, "-m", "hatchling", "build"], checkout)
    (wheel,) = (checkout / "dist").glob("*.whl")
    (sdist,) = (checkout / "dist").glob("*.tar.gz")
    return Built(checkout, wheel, sdist)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A clean environment with the wheel and what it needs, with the extra `embedded`, as locked."""
    prefix = tmp_path_factory.mktemp("installed") / "environment"
    done([sys.executable, "-m", "venv", "--without-pip", str(prefix)], built.checkout)
    environment = Environment(prefix)
    locked = ("--require-hashes", "--no-deps", "-r", str(ROOT / "requirements.lock"))
    install_into(environment, *locked)
    install_into(environment, "--no-deps", str(built.wheel))
    yield environment
    shutil.rmtree(prefix)


def install_into(environment: Environment, *what: str) -> None:
    """Install into an environment with uv, or with pip where the Makefile could not have uv."""
    uv = uv_program()
    python = environment.program("python")
    if uv is not None:
        done([uv, "pip", "install", "--quiet", "--python", python, *what], environment.prefix)
    else:
        done(
            [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *what], environment.prefix
        )


def uv_program() -> str | None:
    """The uv that the Makefile installs with, or one of the machine's."""
    return shutil.which("uv", path=str(Path(sys.prefix) / "installer" / "bin")) or shutil.which("uv")


def done(command: list[str], directory: Path, **environment: str) -> str:
    """Run a command to its good end; returns what it printed. `environment` stands for all of its own."""
    ended = subprocess.run(
        command,
        cwd=directory,
        env=environment or None,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout
