"""Runs the measurements named on the command line, or all of them, and writes `RESULTS.md`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from rich.console import Console

from sandbox_bot.cli import run_on_fast_loop

from . import (
    beside,
    clients,
    cpu,
    create,
    growth,
    guard,
    isolation,
    latency,
    lifecycle,
    neighbour,
    switch,
    throughput,
    workbench,
)
from .report import RESULTS, Section, machine

Measurements = dict[str, Callable[[Section], Awaitable[None]]]

_ALL: Measurements = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "growth": growth.measure,
    "switch": switch.measure,
    "cpu": cpu.measure,
    "create": create.measure,
    "lifecycle": lifecycle.measure,
    "clients": clients.measure,
    "isolation": isolation.measure,
    "neighbour": neighbour.measure,
    "guard": guard.measure,
    "workbench": workbench.measure,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join([*_ALL, 'beside'])}")
    other = parser.add_argument_group("beside: another version, in alternation with this one")
    which = other.add_mutually_exclusive_group()
    which.add_argument("--checkout", type=Path, metavar="PATH", help="a checkout of the project")
    which.add_argument("--revision", metavar="REV", help="a commit, checked out for the time of the run")
    other.add_argument("--rounds", type=int, default=beside.ROUNDS, help="of either (%(default)s)")
    other.add_argument(
        "--own-environment", action="store_true", help="run it with its own .venv instead of this one's"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing is written: does it run?")
    return parser.parse_args()


async def _run(measurements: Measurements, *, quick: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"Measured on {machine()}; the servers, the simulator and the bot share it.")
    for name, measure in measurements.items():
        section = Section(name, console, quick)
        started = time.monotonic()
        await measure(section)
        section.write()
        console.print(f"{name}: {time.monotonic() - started:.0f} s\n", style="dim")
    if not quick:
        console.print(f"Written to {RESULTS.name}.")


def main() -> int:
    """0 when all ran, 2 when there is nothing to measure."""
    arguments = _arguments()
    known = dict(_ALL)
    if arguments.checkout or arguments.revision:
        other = beside.Other(
            arguments.checkout, arguments.revision, arguments.own_environment, arguments.rounds
        )
        known["beside"] = other.measure
    elif "beside" in arguments.names:
        return _wrong("beside needs --checkout PATH or --revision REV.")
    if unknown := [name for name in arguments.names if name not in known]:
        return _wrong(f"Unknown: {', '.join(unknown)}. There are: {', '.join([*_ALL, 'beside'])}.")
    # What the measured processes say about themselves would stand between the tables.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    chosen = {name: known[name] for name in arguments.names or _ALL}
    try:
        run_on_fast_loop(_run(chosen, quick=arguments.quick))
    except beside.OtherError as error:
        return _wrong(str(error))
    return 0


def _wrong(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
