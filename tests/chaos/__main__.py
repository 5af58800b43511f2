"""`python -m tests.chaos`: every scenario, or some of them, with a seed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from sandbox_bot.cli import run_on_fast_loop

from . import report
from .beside import play
from .judge import Verdict
from .scenarios import SCENARIOS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeat a run's random choices")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="scenarios whose name contains TEXT; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="how long the faults of one go on")
    parser.add_argument("--logs", type=Path, help="where the bots' logs are kept")
    parser.add_argument("--list", action="store_true", help="only list the scenarios")
    return parser.parse_args()


async def _run(names: list[str], seed: int, seconds: float, logs: Path) -> bool:
    console = Console(width=None if sys.stdout.isatty() else 240)
    verdicts: dict[str, Verdict] = {}
    for name in names:
        console.print(f"{name} …", style="dim")
        verdict = verdicts[name] = await play(
            SCENARIOS[name], seed, seconds, logs / name.replace(" ", "-").replace("/", "-per-")
        )
        if not verdict.passed:
            report.problems(console, name, verdict)
    console.print(report.table(verdicts, seed))
    report.kills(console, verdicts)
    report.beside(console, verdicts)
    report.explain(console)
    return all(verdict.passed for verdict in verdicts.values())


def main() -> int:
    """0 when every figure that must be zero is, 1 when one is not, 2 for a wrong command line."""
    arguments = _arguments()
    names = [n for n in SCENARIOS if not arguments.only or any(text in n for text in arguments.only)]
    if arguments.list or not names:
        sys.stdout.write("\n".join(SCENARIOS) + "\n")
        return 0 if arguments.list else 2
    # Connections are cut on purpose, in the middle of what aiohttp's handlers write.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    passed = False

    async def run(logs: Path) -> None:
        nonlocal passed
        task = asyncio.current_task()
        if task is not None:
            # Ended from outside, it still ends what it has started.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        passed = await _run(names, seed, arguments.seconds, logs)

    with contextlib.ExitStack() as stack:
        logs = arguments.logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-logs-")))
        with contextlib.suppress(asyncio.CancelledError):
            run_on_fast_loop(run(logs))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
