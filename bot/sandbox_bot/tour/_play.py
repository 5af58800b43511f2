"""Runs the tour from the start to the end, or until a signal."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TextIO

import nats.errors
from redis.exceptions import RedisError

from discord_sim import SimError
from sandbox_core.error_text import explain
from sandbox_core.errors import SandboxError
from sandbox_core.ops import OpsAddressError
from sandbox_core.postgres.errors import DRIVER_ERRORS

from .._streams import OutputLost
from ..embedded import EmbeddedServerError
from ..exit_codes import ExitCode
from ..migrate import MigrationError
from ..runner import StartRefusedError, stop_on_signals
from . import stage
from ._screen import Screen, StepFailed
from .life import Life
from .shell import Shell

_SENTENCES = (StepFailed, SimError, EmbeddedServerError, MigrationError, OpsAddressError, StartRefusedError)
_SERVER_FAULTS = (*DRIVER_ERRORS, RedisError, nats.errors.Error)


async def play(*, keep: bool) -> int:
    """Run until the end or a signal; return the exit code. No process or file stays.

    With `keep` everything stays up at the end, until a signal comes.
    """
    screen = Screen()
    stop = asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="sandbox-tour-") as directory, stop_on_signals(stop):
        log = Path(directory) / "bot.log"
        playing = asyncio.create_task(_play(screen, log, stop if keep else None), name="tour")
        stopping = asyncio.create_task(stop.wait(), name="signals")
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not (playing.done() or screen.finished):
            playing.cancel()
        await asyncio.wait({playing})
        if playing.cancelled():
            screen.stopped()
            return ExitCode.INTERRUPTED
        error = playing.exception()
        if error is None:
            return ExitCode.DONE
        if isinstance(error, OutputLost):
            # Nothing is wrong with the tour, and nobody would read of it.
            raise error
        screen.failed(_sentence(error), _kept(log, error))
        return ExitCode.REFUSED


async def _play(screen: Screen, log: Path, keep_until: asyncio.Event | None) -> None:
    started = time.monotonic()
    screen.opening()
    async with AsyncExitStack() as stack:
        screen.step("PostgreSQL, Valkey and nats-server from their wheels")
        with screen.busy("starting"):
            servers = await stack.enter_async_context(stage.servers_with_schema(log.parent / "servers"))
            stores = await stack.enter_async_context(stage.connected_stores(servers))
        screen.servers(await stage.describe(servers, stores))
        screen.right(f"running and migrated after {time.monotonic() - started:.1f} seconds")

        screen.step("The bot, and a local Discord for it")
        with screen.busy("connecting"):
            place = await stack.enter_async_context(stage.world())
            settings = stage.tour_settings(servers, place)
            output = stack.enter_context(_private_log(log))
            shell = Shell(servers, place, settings, log.parent)
            await stack.enter_async_context(shell.endpoint())
            _, ops = await stack.enter_async_context(stage.running_bot(settings, output))

        await Life(screen, place, stores, shell, ops.url).play()
        screen.closing(time.monotonic() - started)
        if keep_until is not None:
            screen.addresses(stage.addresses(servers, place, ops, shell.file, log))
            place.sim.record = False
            await keep_until.wait()


def _private_log(path: Path) -> TextIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "w")


def _sentence(error: BaseException) -> str:
    if isinstance(error, SandboxError):
        return str(explain(error))
    if isinstance(error, _SENTENCES):
        return str(error)
    if isinstance(error, TimeoutError):
        return "The bot was not ready in time."
    if isinstance(error, _SERVER_FAULTS):
        return f"A server did not answer as it should ({type(error).__name__}: {error})."
    return f"An unexpected error stopped the tour ({type(error).__name__}: {error})."


def _kept(log: Path, error: BaseException) -> Path:
    """Copy the bot's log to a place that stays after the tour, with the failure at its end."""
    descriptor, name = tempfile.mkstemp(prefix="sandbox-tour-", suffix=".log", text=True)
    with os.fdopen(descriptor, "w") as kept:
        if log.exists():
            with log.open() as lines:
                shutil.copyfileobj(lines, kept)
        traceback.print_exception(error, file=kept)
    return Path(name)
