"""What a host's or a worker's process shows of an error when it has not configured structlog."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOGS = """
import structlog
{first}
from sandbox_core.plain_tracebacks import show_plain_tracebacks
show_plain_tracebacks()

def fail():
    password = "se" + "cret"
    value = []
    for _ in range(100_000):
        value = [value]
    raise ValueError("it failed")

try:
    fail()
except ValueError:
    structlog.get_logger().exception("not_done")
print("goes on")
"""


def _output(first: str = "") -> str:
    ended = subprocess.run(
        [sys.executable, "-c", _LOGS.format(first=first)], capture_output=True, text=True, check=True
    )
    return ended.stdout


def test_no_variable_is_shown_and_none_is_too_deep() -> None:
    output = _output()
    assert "not_done" in output
    assert "ValueError: it failed" in output
    assert "secret" not in output
    assert output.endswith("goes on\n")


@pytest.mark.parametrize("renderer", ["JSONRenderer", "LogfmtRenderer"])
def test_who_has_configured_structlog_keeps_it(renderer: str) -> None:
    output = _output(f"structlog.configure(processors=[structlog.processors.{renderer}()])")
    assert "Traceback" not in output
    assert "not_done" in output
