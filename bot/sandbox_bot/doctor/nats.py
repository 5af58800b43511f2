"""NATS."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sandbox_core.bootstrap import Core

from .findings import Look
from .places import Place


async def look_at_nats(core: Core, look: Look, place: Place, clock: Callable[[], datetime]) -> None:
    """To come."""
