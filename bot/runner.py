"""Runs the bot: settings in, exit code out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator

import discord
import structlog

from sandbox_core.bootstrap import Core, open_core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.settings import Settings, require_discord

from .client import SandboxBot
from .gateway import GatewayRefusedError, GatewayTuning
from .ops import OpsServer, ops_server
from .readiness import Readiness

_log = structlog.get_logger("sandbox.bot")

# Seconds; with closing the connections before and everything else behind, a stop takes less than ten.
_DRAIN_WITHIN = 4.5
_SAVE_WITHIN = 3.0
_REFUSALS = {
    4004: "Discord refused the token: DISCORD_TOKEN takes the bot's present token.",
    4010: "Discord refused the shards: DISCORD_SHARD_IDS takes numbers below DISCORD_SHARD_COUNT.",
    4011: (
        "Discord demands more shards: set DISCORD_SHARD_COUNT higher, or to nothing for its recommendation."
    ),
    4012: "Discord no longer speaks this version of its gateway: install a newer release.",
    4013: "Discord does not know the intents: install a newer release.",
    4014: (
        "Discord refused the intents: turn on in the application's settings (Bot, Privileged Gateway "
        "Intents) those that DISCORD_PRIVILEGED_INTENTS names, or name fewer there."
    ),
}
"""What to do about close codes after which nothing may be tried again."""


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
    readiness = Readiness()
    async with ops_server(settings.ops_host, settings.ops_port, readiness) as ops:
        _log.info("ops_listening", url=ops.url)

        def waiting(error: DependencyUnavailable) -> None:
            if stop.is_set():
                raise _StoppedWhileWaitingError
            readiness.waiting(error)
            _log.warning("waiting_for_dependency", dependency=error.dependency, reason=error.reason)

        with contextlib.suppress(_StoppedWhileWaitingError):
            async with open_core(settings, on_waiting=waiting) as core:
                bot = SandboxBot(core, tuning)
                readiness.attach(core, bot)
                ops.serve_metrics(core.metrics.registry)
                try:
                    await _run_client(bot, token, ops, stop, on_started)
                finally:
                    readiness.detach()


async def _run_client(
    bot: SandboxBot, token: str, ops: OpsServer, stop: asyncio.Event, on_started: OnStarted | None
) -> None:
    async def started() -> None:
        await bot.wait_until_ready()
        _log.info("bot_ready", shards=sorted(bot.shards), guilds=len(bot.guilds))
        if on_started is not None:
            await on_started(bot, ops)

    async with bot:
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
            await _end(bot)
            for task in (running, follow_up, stopping):
                task.cancel()
            await asyncio.gather(running, follow_up, stopping, return_exceptions=True)


def _raise_refusal(running: asyncio.Task[None]) -> None:
    try:
        running.result()
    except discord.LoginFailure:
        raise StartRefusedError(_REFUSALS[4004]) from None
    except GatewayRefusedError as error:
        raise StartRefusedError(_REFUSALS[error.code]) from None


async def _end(bot: SandboxBot) -> None:
    if bot.has_gateway:
        await bot.gateway.stop()
    await _drain(bot.sandbox_core)
    try:
        async with asyncio.timeout(_SAVE_WITHIN):
            await bot.sessions.close()
            if bot.has_gateway:
                # From here on another process resumes; what is left to close here holds nobody up.
                await bot.gateway.leave()
    except TimeoutError:
        # The next process resumes from an older point, and once the leases have lapsed.
        _log.warning("stopped_without_telling", within=_SAVE_WITHIN)
    await bot.close()


async def _drain(core: Core) -> None:
    try:
        async with asyncio.timeout(_DRAIN_WITHIN):
            await core.router.idle()
    except TimeoutError:
        _log.error("stopped_with_events_unacknowledged", events=core.router.pending)


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
