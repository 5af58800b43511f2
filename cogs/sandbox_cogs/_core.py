"""Finds the core an extension works with: the one its bot brought, or one that the loaded extensions share.

The standalone bot opens the core itself and sets `bot.sandbox_core`. In somebody else's bot the first
extension that loads opens one from the environment's settings, and the last that unloads closes it.
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
_LEASE_ATTRIBUTE = "_sandbox_core_lease"


class CoreNotAttached(RuntimeError):
    """The bot has no core: no extension of this project is loaded in it."""


def core_of(bot: object) -> Core:
    """The core that works for `bot`. Raises `CoreNotAttached` when there is none."""
    core: Core | None = getattr(bot, CORE_ATTRIBUTE, None)
    if core is None:
        raise CoreNotAttached("load an extension of this project, or set `bot.sandbox_core`")
    return core


async def acquire_core(bot: AnyBot, holder: str) -> Core:
    """The core for the extension `holder`, opened when the bot has none yet.

    Pair it with `release_core`. Raises what opening a core raises: `SettingsError` for wrong settings,
    `DependencyUnavailable` for a server that is away, `OpsAddressError` for an `OPS_PORT` that is taken.
    """
    lease: _Lease | None = getattr(bot, _LEASE_ATTRIBUTE, None)
    if lease is None:
        if getattr(bot, CORE_ATTRIBUTE, None) is not None:
            return core_of(bot)
        lease = _Lease(partial(_keep_core_open, bot))
        setattr(bot, _LEASE_ATTRIBUTE, lease)
    lease.holders.add(holder)
    try:
        core = await lease.core()
    except BaseException:
        await release_core(bot, holder)
        raise
    setattr(bot, CORE_ATTRIBUTE, core)
    return core


async def release_core(bot: AnyBot, holder: str) -> None:
    """Give up what `acquire_core` gave; the last holder closes a shared core. Twice is harmless."""
    lease: _Lease | None = getattr(bot, _LEASE_ATTRIBUTE, None)
    if lease is None:
        return
    lease.holders.discard(holder)
    if lease.holders:
        return
    for attribute in (_LEASE_ATTRIBUTE, CORE_ATTRIBUTE):
        if hasattr(bot, attribute):
            delattr(bot, attribute)
    await lease.close()


async def _keep_core_open(bot: AnyBot, ready: asyncio.Future[Core], closing: asyncio.Event) -> None:
    # Imported here: a bot that brings its own core needs none of the drivers behind this.
    from sandbox_core.bootstrap import open_core  # noqa: PLC0415
    from sandbox_core.settings import load_settings  # noqa: PLC0415

    async with open_core(load_settings()) as core, ops_endpoint(bot, core):
        ready.set_result(core)
        await closing.wait()


_Opener = Callable[[asyncio.Future[Any], asyncio.Event], Coroutine[Any, Any, None]]


class _Lease:
    """One shared core and who uses it.

    A task of its own enters and leaves the core's context: loading and unloading happen in different
    tasks, and a context that holds task groups or timeouts must be left by the task that entered it.
    """

    def __init__(self, opener: _Opener) -> None:
        self.holders: set[str] = set()
        self._ready: asyncio.Future[Core] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(opener(self._ready, self._closing), name="sandbox-core")

    async def core(self) -> Core:
        """The core, as soon as it is open. Raises what opening it raised."""
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
        # A failure to open was already raised by `core`, which every holder awaits.
        if failure is not None and not self._ready.cancelled():
            raise failure
