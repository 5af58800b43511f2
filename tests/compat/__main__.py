"""`make compat`: an ordinary bot on each client library, unmodified, in a sandbox; prints what passed.

Each library is installed into an environment of its own below `.compat`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import pytest
from rich.console import Console
from rich.table import Table

from .libraries import LIBRARIES, Library

_MARKS = {"passed": "[green]✓[/]", "failed": "[bold red]✗[/]", "skipped": "-"}


class Results:
    """What came out, by library and test."""

    def __init__(self) -> None:
        self.of: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test's end, or what went wrong before it or after."""
        if report.when != "call" and report.passed:
            return
        test, _, library = report.nodeid.rpartition("::")[2].rstrip("]").partition("[")
        results = self.of.setdefault(library, {})
        if results.get(test) != "failed":
            results[test] = report.outcome

    def table(self) -> Table:
        """Return all of them, a column for each library."""
        tests = list(dict.fromkeys(test for results in self.of.values() for test in results))
        table = Table("", *self.of)
        table.add_row("", *(library.version() for library in _named(self.of)))
        for test in tests:
            marks = (_MARKS.get(results.get(test, ""), "") for results in self.of.values())
            table.add_row(test.removeprefix("test_").replace("_", " "), *marks)
        return table


def _named(names: Iterable[str]) -> list[Library]:
    by_name = {library.name: library for library in LIBRARIES}
    return [by_name[name] for name in names]


def main() -> int:
    """Install, run, and show."""
    for library in LIBRARIES:
        print(f"{library.name} {library.version()}", flush=True)
        library.install()
    os.environ["SANDBOX_COMPAT"] = "1"
    results = Results()
    code = int(pytest.main(["-q", "tests/compat", *sys.argv[1:]], plugins=[results]))
    Console(width=max(120, Console().width)).print(results.table())
    return code


if __name__ == "__main__":
    sys.exit(main())
