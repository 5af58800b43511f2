"""What other processes have of the table `gateway_shards`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sandbox_core.moments import MARGIN
from sandbox_core.postgres.pool import Connection

from . import tuning
from .publishers import Holder, Kind, Publisher


class Lease(NamedTuple):
    """One lease as it was found; who renews it makes another of it."""

    shard_id: int
    holder_id: UUID
    until: datetime


class Held(NamedTuple):
    """A shard that another process holds."""

    holder: Holder
    lease: Lease
    lapses_in: float
    """How many seconds its lease lasts."""
    settled_ago: float | None
    """Every event from before so many seconds ago is stored; None when nobody said so."""
    is_over: bool
    """The session by which its holder says that it lives is over."""

    @property
    def is_live(self) -> bool:
        """Its lease has not lapsed."""
        return self.lapses_in >= 0


class Latest(NamedTuple):
    """The last change of a shard's holder."""

    epoch: int
    is_ours: bool
    """This process holds it."""


class Superseded(NamedTuple):
    """What was there with other numbers of shards."""

    was_any: bool
    settled_ago: float | None
    """Every event from before so many seconds ago is stored; None when nobody said so."""
    epochs: dict[int, dict[int, int]]
    """By number of shards and shard, those whose leases ended now, each with its new epoch."""


async def held(connection: Connection, publisher: Publisher, shard_count: int) -> list[Held]:
    """What others hold with this number of shards."""
    return await _held(connection, publisher, shard_count, "shard.shard_count = $3")


async def foreign(connection: Connection, publisher: Publisher, shard_count: int) -> list[Held]:
    """What others hold with any other number of shards."""
    return await _held(connection, publisher, shard_count, "shard.shard_count <> $3")


async def latest(
    connection: Connection, publisher: Publisher, shard_count: int, shard_ids: Collection[int]
) -> dict[int, Latest]:
    """What is so of these shards now."""
    rows = await connection.fetch(
        """
        SELECT shard_id, epoch, holder IS NOT DISTINCT FROM $4 AS is_ours FROM gateway_shards
        WHERE application_id = $1 AND shard_count = $2 AND shard_id = ANY($3)
        """,
        publisher.application_id,
        shard_count,
        list(shard_ids),
        publisher.process_id,
    )
    return {row["shard_id"]: Latest(row["epoch"], row["is_ours"]) for row in rows}


async def _held(connection: Connection, publisher: Publisher, shard_count: int, which: str) -> list[Held]:
    rows = await connection.fetch(
        f"""
        SELECT shard.shard_count, shard.shard_id, shard.held_since,
            extract(epoch FROM shard.lease_until - clock_timestamp())::float8 AS lapses_in,
            extract(epoch FROM clock_timestamp() - shard.settled_at)::float8 AS settled_ago,
            coalesce(told.kind, 'standalone') AS kind, coalesce(told.name, process.name, '') AS name,
            shard.holder, shard.lease_until,
            process.process_id IS NOT NULL AND sandbox_session_is_over(process.session) AS is_over
        FROM gateway_shards AS shard
        LEFT JOIN gateway_publishers AS told
            ON told.application_id = shard.application_id AND told.process_id = shard.holder
        LEFT JOIN gateway_processes AS process ON process.process_id = shard.holder
        WHERE shard.application_id = $1 AND {which} AND shard.holder <> $2
        ORDER BY shard.shard_count, shard.shard_id
        """,  # noqa: S608 (constants of this module)
        publisher.application_id,
        publisher.process_id,
        shard_count,
    )
    return [_held_of(row) for row in rows]


def _held_of(row: Any) -> Held:
    holder = Holder(Kind(row["kind"]), row["name"], row["shard_count"], row["shard_id"], row["held_since"])
    lease = Lease(row["shard_id"], row["holder"], row["lease_until"])
    lapses_in = row["lapses_in"]
    if lapses_in > tuning.LEASE + MARGIN:
        # No lease is that long: whoever wrote this, its holder did not.
        lapses_in = -1.0
    return Held(holder, lease, lapses_in, row["settled_ago"], row["is_over"])


async def supersede(connection: Connection, publisher: Publisher, shard_count: int) -> Superseded:
    """No session with another number of shards is published or resumed any more."""
    rows = await connection.fetch(
        """
        WITH before AS (
            SELECT shard_count, shard_id, holder, settled_at FROM gateway_shards
            WHERE application_id = $1 AND shard_count <> $2 AND epoch > 0
            FOR UPDATE
        )
        UPDATE gateway_shards AS shard SET
            holder = NULL, lease_until = NULL,
            epoch = epoch + (before.holder IS NOT NULL)::integer,
            stale_epoch = epoch + (before.holder IS NOT NULL)::integer
        FROM before
        WHERE application_id = $1 AND shard.shard_count = before.shard_count
            AND shard.shard_id = before.shard_id
        RETURNING shard.shard_count, shard.shard_id, epoch, before.holder IS NOT NULL AS was_held,
            extract(epoch FROM clock_timestamp() - before.settled_at)::float8 AS settled_ago
        """,
        publisher.application_id,
        shard_count,
    )
    settled: dict[int, list[float | None]] = {}
    epochs: dict[int, dict[int, int]] = {}
    for row in rows:
        settled.setdefault(row["shard_count"], []).append(row["settled_ago"])
        if row["was_held"]:
            epochs.setdefault(row["shard_count"], {})[row["shard_id"]] = row["epoch"]
    whole = [ago for count, agos in settled.items() if (ago := settled_of_all(count, agos)) is not None]
    return Superseded(bool(rows), min(whole, default=None), epochs)


def settled_of_all(shard_count: int, settled_ago: Collection[float | None]) -> float | None:
    """What is settled of all shards together; None when that of some is not known."""
    known = [ago for ago in settled_ago if ago is not None]
    return max(known) if len(known) == shard_count else None
