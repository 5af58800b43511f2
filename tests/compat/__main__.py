"""`make compat`: an ordinary bot on each client library, unmodified, in a sandbox; prints what passed.

Each library is installed into an environment of its own below `.compat`. Without names all are tried; what
is no library's name is an option of pytest's.
"""

from __future__ import annotations

import os
import sys

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
        table.add_row("", *(_named()[name].version() for name in self.of))
        for test in tests:
            marks = (_MARKS.get(results.get(test, ""), "") for results in self.of.values())
            table.add_row(test.removeprefix("test_").replace("_", " "), *marks)
        return table


def _named() -> dict[str, Library]:
    return {library.name: library for library in LIBRARIES}


def main() -> int:
    """Install, run, and show."""
    names = [word for word in sys.argv[1:] if word in _named()]
    wanted = [_named()[name] for name in names] or list(LIBRARIES)
    for library in wanted:
        print(f"{library.name} {library.version()}", flush=True)
        library.install()
    os.environ["SANDBOX_COMPAT"] = " ".join(library.name for library in wanted)
    results = Results()
    options = [word for word in sys.argv[1:] if word not in names]
    code = int(pytest.main(["-q", "tests/compat", *options], plugins=[results]))
    Console(width=max(120, Console().width)).print(results.table())
    return code


if __name__ == "__main__":
    sys.exit(main())
