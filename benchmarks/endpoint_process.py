"""The endpoint for unmodified bots in a process of its own, without limits on beginnings."""

from __future__ import annotations

import asyncio
import logging

import structlog

from sandbox_bot.cli import run_on_fast_loop
from sandbox_bot.runner import stop_on_signals
from sandbox_core.settings import load_settings
from sandbox_gateway.process import EndpointTuning, run_endpoint
from sandbox_gateway.sessions.service import SessionTuning
from sandbox_gateway.share import ShareLimits

_NO_LIMIT = ShareLimits(all_sandboxes=100_000, each=100_000)


async def _run() -> None:
    stop = asyncio.Event()
    # What is measured is how fast all is sent, and never that a client was ended for being slow.
    sessions = SessionTuning(waiting_events=1_000_000, waiting_bytes=1 << 30)
    tuning = EndpointTuning(sessions=sessions, identify_every=0.001, leave_within=0.5, share=_NO_LIMIT)
    with stop_on_signals(stop):
        await run_endpoint(load_settings(), stop=stop, tuning=tuning)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    run_on_fast_loop(_run())
