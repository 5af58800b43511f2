"""Finds the core for an extension: the bot's own core, or one core that all loaded extensions share.

The standalone bot opens the core itself and sets `bot.sandbox_core`. In a host's bot the first extension
that loads opens a core with the settings of the environment. The last extension that unloads closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from discord.ext import commands

from ._ops import ops_endpoint

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

AnyBot = commands.Bot | commands.AutoShardedBot

CORE_ATTRIBUTE = "sandbox_core"
_SHARED_ATTRIBUTE = "_sandbox_shared_core"


class CoreNotAttached(RuntimeError):
    """The bot has no core: no extension of this project is loaded in it."""


def core_of(bot: object) -> Core:
    """Return the bot's core. Raises `CoreNotAttached` when it has none."""
    core: Core | None = getattr(bot, CORE_ATTRIBUTE, None)
    if core is None:
        raise CoreNotAttached("load an extension of this project, or set `bot.sandbox_core`")
    return core


async def acquire_core(bot: AnyBot, holder: str) -> Core:
    """Return the core for the extension `holder`; open it when the bot has none yet.

    Each call needs a `release_core`. Raises what opening a core raises: `SettingsError` for wrong settings,
    `DependencyUnavailable` for a server that is away, `OpsAddressError` for an `OPS_PORT` that is taken.
    """
    shared: _SharedCore | None = getattr(bot, _SHARED_ATTRIBUTE, None)
    if shared is None:
        if getattr(bot, CORE_ATTRIBUTE, None) is not None:
            return core_of(bot)
        shared = _SharedCore(partial(_keep_core_open, bot))
        setattr(bot, _SHARED_ATTRIBUTE, shared)
    shared.holders.add(holder)
    try:
        core = await shared.core()
    except BaseException:
        await release_core(bot, holder)
        raise
    setattr(bot, CORE_ATTRIBUTE, core)
    return core


async def release_core(bot: AnyBot, holder: str) -> None:
    """Release the core of the extension `holder`; the last holder closes a shared core.

    A second call does nothing.
    """
    shared: _SharedCore | None = getattr(bot, _SHARED_ATTRIBUTE, None)
    if shared is None:
        return
    shared.holders.discard(holder)
    if shared.holders:
        return
    for attribute in (_SHARED_ATTRIBUTE, CORE_ATTRIBUTE):
        if hasattr(bot, attribute):
            delattr(bot, attribute)
    await shared.close()


async def _keep_core_open(bot: AnyBot, ready: asyncio.Future[Core], closing: asyncio.Event) -> None:
    # Imported here: a bot with its own core does not need these drivers.
    from sandbox_core.bootstrap import open_core  # noqa: PLC0415
    from sandbox_core.plain_tracebacks import show_plain_tracebacks  # noqa: PLC0415
    from sandbox_core.settings import load_settings  # noqa: PLC0415

    show_plain_tracebacks()
    async with open_core(load_settings()) as core, ops_endpoint(bot, core):
        ready.set_result(core)
        await closing.wait()


_Opener = Callable[[asyncio.Future[Any], asyncio.Event], Coroutine[Any, Any, None]]


class _SharedCore:
    """One core and the extensions that use it.

    One task enters and leaves the core's context. Extensions load and unload in different tasks, but the
    task that entered a task group or a timeout must also leave it.
    """

    def __init__(self, opener: _Opener) -> None:
        self.holders: set[str] = set()
        self._ready: asyncio.Future[Core] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(opener(self._ready, self._closing), name="sandbox-core")

    async def core(self) -> Core:
        """Wait until the core is open and return it. Raises what opening it raised."""
        either: set[asyncio.Future[Any]] = {self._task, self._ready}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            await self._task
        return self._ready.result()

    async def close(self) -> None:
        """Close the core, or stop opening it. Raises what closing it raised."""
        if not self._ready.done():
            self._ready.cancel()
            self._task.cancel()
        self._closing.set()
        await asyncio.wait({self._task})
        failure = None if self._task.cancelled() else self._task.exception()
        # Every holder awaits `core`, so a failure to open was raised there already.
        if failure is not None and not self._ready.cancelled():
            raise failure
