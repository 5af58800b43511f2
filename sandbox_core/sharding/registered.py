"""Who publishes an application's shards, and who would: plain facts, for whoever shows or tells them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.postgres import connected
from sandbox_core.postgres.pool import Pool

from . import publishers, tuning
from .publishers import Holder, StandsBy, words

MEND = "Stop one of the two, or unload sandbox_cogs.gateway in the bot that has the plugin."


@dataclass(frozen=True, slots=True)
class Registered:
    """Who publishes which shard, and who stands by though nobody planned it."""

    publishing: tuple[Holder, ...]
    standing_by: tuple[StandsBy, ...]


async def registered(pool: Pool, application_id: int | None = None) -> Registered:
    """Ask PostgreSQL, about one application or all. Raises `DependencyUnavailable`."""
    async with connected(pool) as connection:
        publishing = await publishers.publishing(connection, application_id)
        standing_by = await publishers.standing_by(
            connection, application_id, seen_within=tuning.PUBLISHER_SEEN_WITHIN
        )
    unplanned = [one for one in standing_by if not one.is_planned]
    return Registered(tuple(publishing), tuple(unplanned))


def describe(one: StandsBy) -> str:
    """A process that stands by for another, as a sentence without its full stop."""
    holder = one.holder
    since = "" if holder.since is None else f" since {_clock(holder.since)}"
    first = f"{holder}, which publishes it{since}"
    second = f"{words(one.kind)} {one.name}, which stands by"
    if holder.shard_count != one.shard_count:
        counts = f"shards in all: {holder.shard_count} in the first, {one.shard_count} in the second"
        return f"two processes would publish this application's events: {first}, and {second} ({counts})"
    return f"two processes would publish shard {holder.shard_id} of this application: {first}, and {second}"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class TwoPublishers:
    """A notice to the bot's owner, noted as sent already."""

    application_id: int
    about: str
    text: str


class PublisherNotices:
    """Hands out what the bot's owner is to be told, each once, to one process."""

    def __init__(self, pool: Pool, *, after: float = tuning.TOLD_AFTER) -> None:
        """`after`: how many seconds a process stands by before that is told."""
        self._pool = pool
        self._after = after
        self._unsure: dict[str, list[datetime]] = {}
        """By notice the moments of notes of it that were not answered."""

    async def take(self, application_id: int) -> list[TwoPublishers]:
        """What is to be told now. Raises `DependencyUnavailable`."""
        notices = []
        for one in (await registered(self._pool, application_id)).standing_by:
            if one.for_seconds < self._after:
                continue
            about = f"two publishers {one.holder_id} {one.process_id}"
            if await self._claim(application_id, about):
                notices.append(TwoPublishers(application_id, about, describe(one)))
        return notices

    async def _claim(self, application_id: int, about: str) -> bool:
        at = datetime.now(UTC)
        try:
            async with connected(self._pool) as connection:
                unsure = self._unsure.get(about, ())
                claimed = await publishers.claim_notice(connection, application_id, about, at, unsure)
        except DependencyUnavailable:
            # It may be noted.
            self._unsure.setdefault(about, []).append(at)
            raise
        self._unsure.pop(about, None)
        return claimed

    async def give_back(self, notice: TwoPublishers) -> None:
        """Undo `take` for a notice that certainly was not sent."""
        async with connected(self._pool) as connection:
            await publishers.withdraw_notice(connection, notice.application_id, notice.about)
