"""Compares versions as numbers."""

from __future__ import annotations

import re

from .findings import Look


def judge_version(look: Look, version: str, least: tuple[int, ...], mend: str, *, shown: str = "") -> None:
    """Check that a server is new enough; the finding shows `shown` instead of the version, if given."""
    numbers = tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])
    look.judge(numbers >= least, shown or f"version {version}", mend)
