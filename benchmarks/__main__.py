"""Runs the measurements named on the command line, or all of them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

from rich.console import Console

from bot.cli import run_on_fast_loop

from . import create, latency
from .report import machine

_ALL: dict[str, Callable[[Console], Awaitable[None]]] = {
    "create": create.measure,
    "latency": latency.measure,
}


async def _run(names: list[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(f"Measured on {machine()}; the servers, the simulator and the bot share it.")
    for name in names:
        await _ALL[name](console)


def main() -> int:
    """0 when all ran, 2 when a name is unknown."""
    names = sys.argv[1:] or list(_ALL)
    if unknown := [name for name in names if name not in _ALL]:
        sys.stderr.write(f"Unknown: {', '.join(unknown)}. There are: {', '.join(_ALL)}.\n")
        return 2
    run_on_fast_loop(_run(names))
    return 0


sys.exit(main())
