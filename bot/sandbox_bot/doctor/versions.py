"""Versions, compared as numbers."""

from __future__ import annotations

import re

from .findings import Look


def judge_version(look: Look, version: str, least: tuple[int, ...], mend: str, *, shown: str = "") -> None:
    """Whether a server is new enough; `shown` is said instead of the version alone."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    look.judge(numbers >= least, shown or f"version {version}", mend)
