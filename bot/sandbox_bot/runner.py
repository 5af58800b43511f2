"""Runs the bot: settings in, exit code out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import discord
import structlog

from sandbox_core import tasks
from sandbox_core.bootstrap import open_core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.metrics import Metrics
from sandbox_core.ops import OpsServer, Readiness, ops_server
from sandbox_core.settings import Settings, require_discord
from sandbox_core.shutdown import ShutdownBudget

from . import __version__
from .client import SandboxBot
from .gateway import GatewayRefusedError, GatewayTuning
from .gateway.endings import REFUSALS

_log = structlog.get_logger("sandbox.bot")

END_WITHIN = 8.0
"""Seconds from the signal until nothing is waited for any more, so that the process has ended after ten."""
# And of these, for each step at most; behind them the connections are closed in what is left.
_CLOSE_GATEWAY_WITHIN = 2.0
_DRAIN_WITHIN = 4.5
_SAVE_WITHIN = 2.0
_LEAVE_WITHIN = 2.0
_CLOSE_BOT_WITHIN = 2.0
_VERSIONS = {"version": __version__, "discord.py": discord.__version__}


class StartRefusedError(Exception):
    """Discord refused what the settings ask for; the text says which setting and what to do."""


class _StoppedWhileWaitingError(Exception):
    """The process is to stop before the server it waits for has come."""


OnStarted = Callable[[SandboxBot, OpsServer], Awaitable[None]]


async def run_bot(
    settings: Settings,
    *,
    stop: asyncio.Event,
    on_started: OnStarted | None = None,
    tuning: GatewayTuning | None = None,
) -> None:
    """Run until `stop` is set; then drain and close, keeping the gateway sessions resumable.

    `on_started` is called once the gateway is ready, or stands by. Raises `SettingsError`,
    `StartRefusedError` or `OpsAddressError` when the bot can't start.
    """
    token = require_discord(settings)
    if settings.discord_api_url is not None:
        discord.http.Route.BASE = settings.discord_api_url
    readiness, metrics, closing = Readiness(), Metrics(), ShutdownBudget(END_WITHIN)
    async with (
        _begun_by(stop, closing),
        ops_server(settings.ops_host, settings.ops_port, readiness, metrics.registry, _VERSIONS) as ops,
    ):
        _log.info("ops_listening", url=ops.url)

        def waiting(error: DependencyUnavailable) -> None:
            if stop.is_set():
                raise _StoppedWhileWaitingError
            _log.warning("waiting_for_dependency", dependency=error.dependency, reason=error.reason)

        opening = open_core(
            settings, on_waiting=waiting, on_servers=readiness.starting, metrics=metrics, closing=closing
        )
        with contextlib.suppress(_StoppedWhileWaitingError):
            async with opening as core:
                bot = SandboxBot(core, tuning)
                readiness.attach(core, bot)
                try:
                    await _run_client(bot, token, stop, closing, partial(_started, bot, ops, on_started))
                finally:
                    readiness.detach()


@contextlib.asynccontextmanager
async def _begun_by(stop: asyncio.Event, closing: ShutdownBudget) -> AsyncIterator[None]:
    """The end begins with the signal, whatever the process is at then."""

    async def begin() -> None:
        await stop.wait()
        closing.begin()

    task = asyncio.create_task(begin(), name="stop-watch")
    try:
        yield
    finally:
        await tasks.end(task)


async def _started(bot: SandboxBot, ops: OpsServer, on_started: OnStarted | None) -> None:
    await bot.wait_until_ready()
    _log.info("bot_ready", shards=sorted(bot.shards), guilds=len(bot.guilds))
    if on_started is not None:
        await on_started(bot, ops)


async def _run_client(
    bot: SandboxBot,
    token: str,
    stop: asyncio.Event,
    closing: ShutdownBudget,
    started: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    # Not left as a context, too: that would wait for what was cut off.
    await bot.__aenter__()
    running = asyncio.create_task(bot.start(token), name="bot")
    follow_up = asyncio.create_task(started(), name="bot-started")
    stopping = asyncio.create_task(stop.wait(), name="bot-stop")
    try:
        waiting = {running, stopping, follow_up}
        while waiting and not (running.done() or stopping.done()):
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if follow_up.done():
                waiting.discard(follow_up)
                follow_up.result()
        if running.done():
            _raise_refusal(running)
    finally:
        # The start first: one that goes on would load again what is unloaded, and connect.
        ending = partial(tasks.end, running, follow_up, stopping)
        await closing.finish("start", ending, at_most=_CLOSE_BOT_WITHIN)
        await end(bot, closing)


def _raise_refusal(running: asyncio.Task[None]) -> None:
    try:
        running.result()
    except discord.LoginFailure:
        raise StartRefusedError(REFUSALS[4004]) from None
    except GatewayRefusedError as error:
        raise StartRefusedError(REFUSALS[error.code]) from None


async def end(bot: SandboxBot, closing: ShutdownBudget) -> None:
    """Read no further, drain, save where to resume, leave, and close; what does not end in time is left.

    Nothing is lost by what is left: Discord replays from the point that was saved last.
    """
    if bot.has_gateway:
        await closing.finish("connections to Discord", bot.gateway.stop, at_most=_CLOSE_GATEWAY_WITHIN)
    router = bot.sandbox_core.router
    if not await closing.step("drain", router.idle, at_most=_DRAIN_WITHIN):
        _log.error("stopped_with_events_unacknowledged", events=router.pending)
    untold = []
    if not await closing.step("resume points", bot.sessions.close, at_most=_SAVE_WITHIN):
        untold.append("resume points")
    # From here on another process resumes; what is left to close here holds nobody up.
    if bot.has_gateway and not await closing.step("leases", bot.gateway.leave, at_most=_LEAVE_WITHIN):
        untold.append("leases")
    if untold:
        # The next process resumes from an older point, or once the leases have lapsed.
        _log.warning("stopped_without_telling", left=untold)
    await closing.finish("bot", bot.close, at_most=_CLOSE_BOT_WITHIN)
    await closing.finish("HTTP to Discord", bot.http.close, at_most=_CLOSE_BOT_WITHIN)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """While entered, SIGTERM and SIGINT set `stop`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            _log.warning("stopped_at_once", signal=signal.Signals(number).name)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
