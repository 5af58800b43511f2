"""Chooses the event loop for commands."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run_on_fast_loop(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `work` to its end, on uvloop if it is installed, else on asyncio's own loop."""
    factory = None
    if sys.platform != "win32":
        import uvloop  # noqa: PLC0415 - not there on Windows

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory, debug=bool(os.environ.get("PYTHONASYNCIODEBUG"))) as runner:
        return runner.run(work)
