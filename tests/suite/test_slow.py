"""What `make test` leaves out, and who runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def _slow() -> list[str]:
    (names,) = re.findall(r"^SLOW := (.+)$", MAKEFILE, re.MULTILINE)
    return names.split()


def _left_out(*arguments: str) -> list[str]:
    """The directories that `make test` with these arguments does not run."""
    venv = Path(sys.prefix)
    stamps = [f"--old-file={venv / name}" for name in (".installed-to-run", ".installed")]
    command = ["make", "-n", "test", f"VENV={venv}", *stamps, *arguments]
    # `make` hands on what it was itself given.
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert " -m pytest " in asked.stdout
    return re.findall(r"--ignore=tests/(\w+)", asked.stdout)


def test_only_what_is_named_is_left_out() -> None:
    assert _left_out() == _slow()
    assert [name for name in _slow() if not (ROOT / "tests" / name).is_dir()] == []


@pytest.mark.parametrize("arguments", ["ALL=1", "COVERAGE=1", "ARGS=tests/isolation -x"])
def test_nothing_is_left_out_on_request(arguments: str) -> None:
    assert _left_out(arguments) == []


def test_ci_leaves_nothing_out() -> None:
    (line,) = re.findall(r"^\s+make test .*$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert " ALL=1 " in line
