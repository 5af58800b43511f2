"""Runs the measurements named on the command line, or all of them, and writes `RESULTS.md`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Awaitable, Callable

import structlog
from rich.console import Console

from sandbox_bot.cli import run_on_fast_loop

from . import cpu, create, growth, latency, lifecycle, switch, throughput
from .report import RESULTS, Section, machine

_ALL: dict[str, Callable[[Section], Awaitable[None]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "growth": growth.measure,
    "switch": switch.measure,
    "cpu": cpu.measure,
    "create": create.measure,
    "lifecycle": lifecycle.measure,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(_ALL)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing is written: does it run?")
    return parser.parse_args()


async def _run(names: list[str], *, quick: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"Measured on {machine()}; the servers, the simulator and the bot share it.")
    for name in names:
        section = Section(name, console, quick)
        started = time.monotonic()
        await _ALL[name](section)
        section.write()
        console.print(f"{name}: {time.monotonic() - started:.0f} s\n", style="dim")
    if not quick:
        console.print(f"Written to {RESULTS.name}.")


def main() -> int:
    """0 when all ran, 2 when a name is unknown."""
    arguments = _arguments()
    names = arguments.names or list(_ALL)
    if unknown := [name for name in names if name not in _ALL]:
        sys.stderr.write(f"Unknown: {', '.join(unknown)}. There are: {', '.join(_ALL)}.\n")
        return 2
    # What the measured processes say about themselves would stand between the tables.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    run_on_fast_loop(_run(names, quick=arguments.quick))
    return 0


if __name__ == "__main__":
    sys.exit(main())
