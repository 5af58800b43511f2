"""The loops of the periodic work. Each does one thing, returns when to do it again, and survives failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from discord.ext import commands

from sandbox_cogs._core import AnyBot
from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.manager import utc_now
from sandbox_core.tasks import end, repeat

from ._delivery import deliver, deliver_two_publishers
from ._guild_commands import LeftCommands

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

_log = structlog.get_logger("sandbox.upkeep")

SOONEST = 0.25
"""The shortest pause in seconds between two checks: a sandbox is due now, or another process removes it."""
LATEST = 3.0
"""The longest pause in seconds: another process may have shortened or ended a sandbox's life."""
TELL_EVERY = 5.0
COUNT_EVERY = 10.0
"""Seconds between two updates. Gauges must be at most 15 s old."""
COMMANDS_EVERY = 60.0
RESETS_EVERY = 10.0
TIDY_EVERY = 60.0
AFTER_FAILURE = 3.0

Work = Callable[[], Awaitable[float]]
"""Does one turn, and returns the seconds until the next."""


class Upkeep(commands.Cog):
    """Runs the loops while it is loaded."""

    def __init__(
        self,
        bot: AnyBot,
        core: Core,
        *,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bot = bot
        self._core = core
        self._clock = clock
        self._sleep = sleep
        self._left_commands = LeftCommands(bot, core.pool)
        self._tasks: list[asyncio.Task[None]] = []
        self._trouble: dict[str, str] = {}
        self._touched: dict[UUID, datetime] = {}
        self._dropped: dict[UUID, tuple[int, float]] = {}

    async def cog_load(self) -> None:
        """Start the loops."""
        loops: dict[str, Work] = {
            "remove": self.remove_due,
            "pass": self.full_pass,
            "tell": self.tell,
            "count": self.count,
            "letters": self.count_letters,
            "consumers": self.measure_consumers,
            "credentials": self.keep_credentials,
            "resets": self.finish_resets,
            "commands": self.remove_commands,
            "record": self._core.recordings.recorder.turn,
            "recordings": self.tidy_recordings,
            # Each for itself: one store may be away, or large.
            **{f"measure {store}": partial(self.measure, store) for store in self._core.measuring.stores},
        }
        self._tasks = [
            asyncio.create_task(self._forever(name, work), name=f"upkeep-{name.replace(' ', '-')}")
            for name, work in loops.items()
        ]

    async def cog_unload(self) -> None:
        """Stop the loops; the next process continues an interrupted removal."""
        tasks, self._tasks = self._tasks, []
        await end(*tasks)
        if tasks:
            try:
                await self._core.recordings.recorder.close()
                await self._record_activity()
                await self._record_dropped()
            except DependencyUnavailable as error:
                _log.warning(
                    "activity_lost",
                    dependency=error.dependency,
                    reason=error.reason,
                    sandboxes=len(self._touched),
                )

    async def _forever(self, name: str, work: Work) -> None:
        async def turn() -> None:
            try:
                pause = await work()
                if self._trouble.pop(name, None):
                    _log.info("upkeep_resumed", work=name)
            except SandboxError as error:
                pause = AFTER_FAILURE
                reason = explain(error).sentence
                # One log line for each outage, even when many turns fail.
                if self._trouble.get(name) != reason:
                    _log.warning("upkeep_waits", work=name, reason=reason)
                self._trouble[name] = reason
            await self._sleep(pause)

        def failed() -> None:
            _log.exception("upkeep_failed", work=name)

        await repeat(turn, failed=failed, pause=AFTER_FAILURE, sleep=self._sleep)

    async def remove_due(self) -> float:
        """Remove the due sandboxes. Return the seconds until the next one is due."""
        report = await self._core.cleanup.cleanup_expired()
        for sandbox in report.destroyed:
            _log.info("sandbox_removed", sandbox_id=str(sandbox.id), name=sandbox.name)
        return await self._until_next_due()

    async def _until_next_due(self) -> float:
        moment = await self._core.cleanup.next_due()
        if moment is None:
            return LATEST
        return min(max((moment - self._clock()).total_seconds(), SOONEST), LATEST)

    async def full_pass(self) -> float:
        """Clean up everything, also leftovers of a crash. It runs at the start and then periodically."""
        _, orphans = await self._core.cleanup.run()
        for damage in orphans.found.degraded:
            _log.warning("sandbox_degraded", sandbox_id=str(damage.sandbox.id), missing=damage.missing)
        if orphans.spared:
            _log.warning("orphans_unknown", count=len(orphans.spared), hint="`orphans` shows them")
        return self._core.settings.sandbox_cleanup_interval_minutes * 60

    async def keep_credentials(self) -> float:
        """Refuse the credentials of sandboxes as they expire; make again what a server has lost."""
        for store, sandbox_id in await self._core.cleanup.keep_credentials():
            _log.info("credentials_made_again", store=store, sandbox_id=str(sandbox_id))
        return await self._until_next_due()

    async def finish_resets(self) -> float:
        """Finish the resets of processes that are gone."""
        for sandbox in await self._core.cleanup.finish_resets():
            _log.info("sandbox_reset_finished", sandbox_id=str(sandbox.id), name=sandbox.name)
        return RESETS_EVERY

    async def remove_commands(self) -> float:
        """Remove the commands that ended sandboxes have left in servers, once the bot can ask Discord."""
        if self._bot.is_ready():
            await self._left_commands.turn()
        return COMMANDS_EVERY

    async def tidy_recordings(self) -> float:
        """Remove recordings that are too old."""
        await self._core.recordings.library.tidy()
        return TIDY_EVERY

    async def measure(self, store: str) -> float:
        """Measure what sandboxes store there, if it is this process's turn."""
        # Others may begin right after this one has ended.
        return max(SOONEST, await self._core.measuring.turn(store))

    async def tell(self) -> float:
        """Send the notices that are due, once the bot can send messages."""
        if self._bot.is_ready():
            async for notice in self._core.notices.take():
                await deliver(self._bot, self._core, notice)
            for two in await self._core.publisher_notices.take(self._bot.application_id or 0):
                await deliver_two_publishers(self._bot, self._core, two)
        return TELL_EVERY

    async def count(self) -> float:
        """Bring the gauges, `last_activity_at` and the numbers of dropped events up to date."""
        await self._core.cleanup.refresh_gauges()
        await self._core.measuring.refresh_gauges()
        await self._record_activity()
        await self._record_dropped()
        return COUNT_EVERY

    async def count_letters(self) -> float:
        """Bring the gauge of dead letters up to date."""
        self._core.metrics.dead_letters(await self._core.dead_letters.counts())
        return COUNT_EVERY

    async def measure_consumers(self) -> float:
        """Bring the gauges of production's consumers up to date."""
        await self._core.consumers.refresh_gauges()
        return COUNT_EVERY

    async def _record_activity(self) -> None:
        # Keep them until they are written: PostgreSQL may be away.
        self._touched |= {
            UUID(sandbox_id): moment
            for sandbox_id, moment in self._core.router.activity.drain_touched().items()
        }
        touched = dict(self._touched)
        await self._core.cleanup.record_activity(touched)
        for sandbox_id, moment in touched.items():
            if self._touched.get(sandbox_id) == moment:
                del self._touched[sandbox_id]

    async def _record_dropped(self) -> None:
        # As above. Two turns never overlap, and the last one comes after the loops.
        for sandbox_id, lost in self._core.router.sandboxes.budgets.drain_dropped().items():
            events, since = self._dropped.get(UUID(sandbox_id), (0, lost.since))
            self._dropped[UUID(sandbox_id)] = (events + lost.events, since)
        await self._core.cleanup.record_dropped(self._dropped)
        self._dropped = {}
