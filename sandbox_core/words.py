"""Texts that Discord's commands and the command line both use."""

from __future__ import annotations


def counted(number: int, one: str, several: str) -> str:
    """Return the number with its noun: `1 server`, `2 servers`, `1,200 servers`."""
    return f"{number:,} {one if number == 1 else several}"
