"""Which warnings fail a test: our own do, a library's do not (`filterwarnings` in pyproject.toml)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]

_LIBRARY = """
import warnings

def old():
    warnings.warn("the library is at fault", DeprecationWarning)

def blames_its_caller():
    warnings.warn("do not call this any more", DeprecationWarning, stacklevel=2)
"""

# Each is one kind of warning; the name says what becomes of the test.
_CASES = """
import gc, threading, warnings
import pytest
import library

async def work(): ...

def lose_a_coroutine():
    work()

@pytest.fixture(autouse=True)
def _collected():
    yield
    gc.collect()

@pytest.mark.parametrize("module", {foreign!r})
def test_passes_by_name(module):
    warnings.warn_explicit("new", UserWarning, "some/file.py", 1, module=module, registry={{}})

def test_passes_by_library():
    library.old()

def test_passes_compiled():
    compile("'\\\\d'", "{root}/.venv/lib/python3/site-packages/library/tests/old.py", "exec")

@pytest.mark.parametrize("module", {ours!r})
def test_fails_by_name(module):
    warnings.warn_explicit("new", UserWarning, "some/file.py", 1, module=module, registry={{}})

def test_fails_as_the_caller():
    library.blames_its_caller()

def test_fails_as_its_own():
    warnings.warn("new", UserWarning)

def test_fails_compiled():
    compile("'\\\\d'", "{root}/sandbox_core/new.py", "exec")

def test_fails_by_a_lost_coroutine():
    lose_a_coroutine()

def test_fails_by_a_lost_coroutine_of_a_library():
    exec("work()", {{"work": work, "__name__": "library"}})

def test_fails_by_an_open_file():
    exec("open('left')", {{"__name__": "library"}})

def test_fails_by_a_finalizer():
    class Broken:
        def __del__(self): raise RuntimeError("broken")
    Broken()

def test_fails_by_a_thread():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
"""

_OURS = [
    "sandbox_bot",
    "sandbox_bot.gateway.socket",
    "sandbox_cogs.sandbox",
    "sandbox_core.nats",
    "sandbox_gateway.sessions",
    "discord_sim",
    "tests.conftest",
    "benchmarks.__main__",
    "docs.generate",
]
_FOREIGN = [
    "discord",
    "discord.gateway",
    "asyncpg",
    "sandbox",
    "discord_simulator",
    "tests_of_others",
    "redis.tests",
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What each case failed with, or nothing, in a pytest of its own with this repository's settings."""
    place = tmp_path_factory.mktemp("warnings")
    (place / "library.py").write_text(_LIBRARY)
    (place / "left").touch()
    (place / "tests").mkdir()
    cases = _CASES.format(ours=_OURS, foreign=_FOREIGN, root=ROOT)
    (place / "tests" / "test_cases.py").write_text(cases)
    # A variable of the shell would change which warnings there are.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))
    }
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(place)),
            *("-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", "--junitxml", "report.xml", "tests"),
        ],
        cwd=place,
        # Without the other plugins, which take longer to import than the cases to run.
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    report = ET.parse(place / "report.xml")  # noqa: S314 - pytest has just written it
    return {
        str(case.get("name")): " ".join(str(part.text) for part in case if part.tag in {"failure", "error"})
        for case in report.iter("testcase")
    }


def test_a_warning_of_ours_fails_a_test(outcomes: Mapping[str, str]) -> None:
    failing = {name: text for name, text in outcomes.items() if name.startswith("test_fails")}
    assert len(failing) == _CASES.count("def test_fails") - 1 + len(_OURS)
    # While it compiles, Python makes an error of its own of the warning.
    warned = re.compile("Warning|SyntaxError: .*invalid escape sequence")
    assert [name for name, text in failing.items() if not warned.search(text)] == []


def test_a_warning_of_a_library_does_not(outcomes: Mapping[str, str]) -> None:
    passing = {name: text for name, text in outcomes.items() if name.startswith("test_passes")}
    assert len(passing) == _CASES.count("def test_passes") - 1 + len(_FOREIGN)
    assert [name for name, text in passing.items() if text] == []


def test_every_package_is_among_our_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages
    for package in packages:
        assert Path(package).name in {module.partition(".")[0] for module in _OURS}, package
