"""Programs and files that the tests of the deployment work with."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from sandbox_bot._wheel_programs import find_wheel_program

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def needed(program: str, package: str) -> str:
    """The path of a program that a system package brings.

    Where it is missing the test is skipped on a developer's machine, and fails under CI, which installs it.
    """
    path = shutil.which(program)
    if path is None:
        _missing(f"{program} is not installed; Debian's package {package} brings it")
    return path


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def wheel_program(distribution: str, program: str) -> str:
    """The path of a program that a wheel of the extra `dev` brings."""
    path = find_wheel_program(distribution, program)
    assert path is not None, f"{distribution} is not installed"
    return str(path)


def read_yaml(path: Path) -> Any:
    """The one document of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alert_rules() -> list[dict[str, Any]]:
    """Every alert of `alerts.yml`."""
    groups = read_yaml(DEPLOY / "prometheus" / "alerts.yml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def anchors(markdown: str) -> set[str]:
    """The anchors GitHub gives the headings of a Markdown text."""
    headings = re.findall(r"^#+ +(.+?) *$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
