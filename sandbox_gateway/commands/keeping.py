"""Brings servers at Discord to what is wanted, whenever it has changed, and after processes that died."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.guild_commands import GuildCommands, ServerBusy
from sandbox_gateway.share import ShareUsed
from sandbox_gateway.tenants import Tenant
from sandbox_gateway.upstream import UpstreamAway

_log = structlog.get_logger("sandbox.commands")

_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class KeepingPace:
    """In seconds."""

    every: float = 5.0
    """Between two looks without any news."""
    after_failure: float = 10.0
    """Until a server is tried again; doubled with each failure, up to an hour."""
    look_every: float = 600.0
    """After which a server is looked at though nothing is due: somebody may have removed commands there."""


class CommandKeeper:
    """A loop over the servers where something is due."""

    def __init__(
        self,
        guilds: GuildCommands,
        *,
        pace: KeepingPace = KeepingPace(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guilds = guilds
        self._pace = pace
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._failures: dict[str, tuple[int, float]] = {}
        """By server: how many, and until when it is left alone."""
        self._looked: dict[str, float] = {}

    @property
    def failing(self) -> int:
        """How many servers could not be brought to what is wanted."""
        return len(self._failures)

    def start(self) -> None:
        """Begin."""
        loop = tasks.repeat(self._turn, failed=_failed, pause=self._pace.every)
        self._task = asyncio.create_task(loop, name="commands")

    async def close(self) -> None:
        """End. What is half done is gone on with by another process."""
        if self._task is not None:
            await tasks.end(self._task)
            self._task = None

    def tenant_changed(self, sandbox_id: UUID, tenant: Tenant | None) -> None:
        """Look now: a sandbox has other servers, or has ended."""
        self._wake.set()

    async def settled(self, guild_ids: Collection[str], *, within: float) -> None:
        """Return when what is due now was tried, or after so many seconds."""
        for guild_id in guild_ids:
            self._failures.pop(guild_id, None)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wake.set()
        await asyncio.wait({done}, timeout=within)

    async def _turn(self) -> None:
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        try:
            await self._pass()
        except DependencyUnavailable as error:
            _log.debug("commands_wait", dependency=error.dependency, reason=error.reason)
        finally:
            for done in waiting:
                if not done.done():
                    done.set_result(None)
        try:
            async with asyncio.timeout(self._pace.every):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _pass(self) -> None:
        now = self._monotonic()
        due = set(await self._guilds.due())
        looks = set()
        # Also soon after the start: nobody knows what was done there meanwhile.
        for guild_id in await self._guilds.written():
            if now - self._looked.get(guild_id, -self._pace.look_every) >= self._pace.look_every:
                looks.add(guild_id)
        due |= looks
        for guild_id in self._looked.keys() - due:
            if now - self._looked[guild_id] > 2 * self._pace.look_every:
                del self._looked[guild_id]
        for guild_id in self._failures.keys() - due:
            del self._failures[guild_id]
        ready = [guild_id for guild_id in sorted(due) if self._failures.get(guild_id, (0, now))[1] <= now]
        turns = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for guild_id in ready:
                group.create_task(self._one(guild_id, turns, look=guild_id in looks))

    async def _one(self, guild_id: str, turns: asyncio.Semaphore, *, look: bool) -> None:
        async with turns:
            try:
                brought = await self._guilds.reconcile(guild_id, look=look)
                problem = ""
                if brought.refused is not None:
                    problem = f"Discord answered {brought.refused.status}, code {brought.refused.code}"
            except ShareUsed as used:
                problem = f"the share is used up: {used}"
            except UpstreamAway as away:
                problem = f"Discord does not answer ({away})"
            except ServerBusy:
                problem = "another process is writing there"
            except DependencyUnavailable as error:
                problem = f"{error.dependency}: {error.reason}"
            except Exception:
                # One server's odd answer does not keep the others from theirs.
                _log.exception("commands_not_written", guild_id=guild_id)
                problem = "a fault"
        now = self._monotonic()
        if not problem:
            self._failures.pop(guild_id, None)
            if look:
                self._looked[guild_id] = now
            return
        failures = self._failures.get(guild_id, (0, now))[0] + 1
        pause = min(self._pace.after_failure * 2 ** min(failures - 1, 10), 3600.0)
        self._failures[guild_id] = (failures, now + pause)
        _log.warning("commands_not_written", guild_id=guild_id, problem=problem, again_after=pause)


def _failed() -> None:
    _log.exception("commands_not_kept")
