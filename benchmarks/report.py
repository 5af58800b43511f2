"""Figures with their spread, and tables that a terminal and a file both show."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Spread:
    """The same figure measured several times."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return f"{median(self.values):,.2f} ({min(self.values):,.2f}-{max(self.values):,.2f})"

    def over(self, reference: Spread) -> Spread:
        """Ratios, round by round: what ran side by side is compared with each other."""
        return Spread(tuple(a / b for a, b in zip(self.values, reference.values, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the sorted values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def machine() -> str:
    """What the figures were measured on."""
    system, python = f"{platform.system()} {platform.machine()}", platform.python_version()
    return f"{system}, {os.cpu_count()} cores, Python {python}"


def show(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print one table; the first column names what was measured."""
    table = Table(title=title, title_justify="left", show_lines=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)
