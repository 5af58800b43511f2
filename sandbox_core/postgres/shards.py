"""The tables of the gateway's shards: who holds which, and the spacing of IDENTIFYs.

Every moment in them is the database's. A lease is this process's for `lease` seconds from before the call
that took or renewed it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from .pool import Connection, Pool, connected, transaction


@dataclass(frozen=True, slots=True)
class Leases:
    """What one turn found, by shard number."""

    mine: Mapping[int, int]
    """Held by this process, renewed or taken now; each with its epoch."""
    others: frozenset[int]
    """Held by other processes whose leases have not lapsed."""
    share: int
    """How many shards this process should hold."""
    taken_over: frozenset[int] = frozenset()
    """Of `mine`, those taken now from another process whose lease had lapsed."""


class _Taken(NamedTuple):
    epochs: dict[int, int]
    over: frozenset[int]


class ShardRows:
    """The leases of one process on the shards of one application.

    `lease` is in seconds. Every method raises `DependencyUnavailable` when PostgreSQL is away.
    """

    def __init__(self, pool: Pool, application_id: int, process_id: UUID, *, lease: float) -> None:
        self._pool = pool
        self._application_id = application_id
        self._process_id = process_id
        self._lease = lease

    async def agree(self, recommended: int) -> int:
        """The number of shards that live processes use; `recommended` when there are none.

        This process counts among them from now on.
        """
        async with transaction(self._pool) as connection:
            # Two processes that start together must not agree on two numbers.
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('gateway shards ' || $1::text, 0))",
                str(self._application_id),
            )
            used: int | None = await connection.fetchval(
                """
                SELECT shard_count FROM (
                    SELECT shard_count FROM gateway_shard_candidates
                    WHERE application_id = $1 AND seen_at > clock_timestamp() - make_interval(secs => $2)
                    UNION ALL
                    SELECT shard_count FROM gateway_shards
                    WHERE application_id = $1 AND lease_until > clock_timestamp()
                ) AS live
                LIMIT 1
                """,
                self._application_id,
                self._lease,
            )
            count = used or recommended
            await self._be_seen(connection, count)
        await self.prepare(count)
        return count

    async def prepare(self, shard_count: int) -> None:
        """Make the rows of this number of shards where they are missing."""
        async with connected(self._pool) as connection:
            await connection.execute(
                """
                INSERT INTO gateway_shards (application_id, shard_count, shard_id)
                SELECT $1, $2, generate_series(0, $2 - 1)
                ON CONFLICT DO NOTHING
                """,
                self._application_id,
                shard_count,
            )

    async def share(self, shard_count: int, *, may_take_lapsed: bool, taking: bool) -> Leases:
        """Renew this process's leases, and while `taking` take free shards up to its fair share.

        `may_take_lapsed` also takes shards whose leases have lapsed.
        """
        async with transaction(self._pool) as connection:
            mine = await self._renew(connection, shard_count)
            if taking:
                await self._be_seen(connection, shard_count)
            share = await self._fair_share(connection, shard_count)
            missing = share - len(mine) if taking else 0
            taken = _Taken({}, frozenset())
            if missing > 0:
                taken = await self._take(
                    connection, shard_count, range(shard_count), missing, lapsed=may_take_lapsed
                )
            others = await self._others(connection, shard_count)
            return Leases(mine | taken.epochs, others, share, taken.over)

    async def fix(
        self,
        shard_count: int,
        shard_ids: Collection[int],
        running: Collection[int],
        *,
        may_take_lapsed: bool,
        taking: bool,
    ) -> Leases:
        """As `share`, for a process whose shards are fixed; a lapsed one that is `running` here is ours."""
        async with transaction(self._pool) as connection:
            mine, over = await self._renew(connection, shard_count), frozenset[int]()
            if taking:
                first = await self._take(
                    connection, shard_count, shard_ids, len(shard_ids), lapsed=may_take_lapsed
                )
                mine |= first.epochs
                unleased = set(running) - mine.keys()
                second = await self._take(connection, shard_count, unleased, len(unleased), lapsed=True)
                mine |= second.epochs
                over = first.over | second.over
            return Leases(mine, await self._others(connection, shard_count), len(shard_ids), over)

    async def release(self, shard_count: int, shard_id: int) -> None:
        """Another process may have the shard."""
        async with connected(self._pool) as connection:
            await connection.execute(
                """
                UPDATE gateway_shards SET holder = NULL, lease_until = NULL
                WHERE application_id = $1 AND shard_count = $2 AND shard_id = $3 AND holder = $4
                """,
                self._application_id,
                shard_count,
                shard_id,
                self._process_id,
            )

    async def leave(self) -> None:
        """This process runs no shard any more, and wants none."""
        async with transaction(self._pool) as connection:
            await connection.execute(
                """
                UPDATE gateway_shards SET holder = NULL, lease_until = NULL
                WHERE application_id = $1 AND holder = $2
                """,
                self._application_id,
                self._process_id,
            )
            await connection.execute(
                """
                DELETE FROM gateway_shard_candidates
                WHERE application_id = $1
                    AND (process_id = $2 OR seen_at < clock_timestamp() - interval '1 hour')
                """,
                self._application_id,
                self._process_id,
            )

    async def _be_seen(self, connection: Connection, shard_count: int) -> None:
        await connection.execute(
            """
            INSERT INTO gateway_shard_candidates (application_id, process_id, shard_count, joined_at, seen_at)
            VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp())
            ON CONFLICT (application_id, process_id) DO UPDATE
            SET shard_count = excluded.shard_count, seen_at = excluded.seen_at
            """,
            self._application_id,
            self._process_id,
            shard_count,
        )

    async def _renew(self, connection: Connection, shard_count: int) -> dict[int, int]:
        rows = await connection.fetch(
            """
            UPDATE gateway_shards SET lease_until = clock_timestamp() + make_interval(secs => $4)
            WHERE application_id = $1 AND shard_count = $2 AND holder = $3
            RETURNING shard_id, epoch
            """,
            self._application_id,
            shard_count,
            self._process_id,
            self._lease,
        )
        return {row["shard_id"]: row["epoch"] for row in rows}

    async def _fair_share(self, connection: Connection, shard_count: int) -> int:
        """Shares differ by one at most, and the larger ones are those of the longest-standing processes."""
        rows = await connection.fetch(
            """
            SELECT process_id FROM gateway_shard_candidates
            WHERE application_id = $1 AND shard_count = $2
                AND seen_at > clock_timestamp() - make_interval(secs => $3)
            ORDER BY joined_at, process_id
            """,
            self._application_id,
            shard_count,
            self._lease,
        )
        order = [row["process_id"] for row in rows]
        if self._process_id not in order:
            return 0
        least, rest = divmod(shard_count, len(order))
        return least + (order.index(self._process_id) < rest)

    async def _take(
        self,
        connection: Connection,
        shard_count: int,
        shard_ids: Collection[int],
        most: int,
        *,
        lapsed: bool,
    ) -> _Taken:
        rows = await connection.fetch(
            """
            WITH free AS (
                SELECT shard_id, holder FROM gateway_shards
                WHERE application_id = $1 AND shard_count = $2 AND shard_id = ANY($5)
                    AND (holder IS NULL OR ($7 AND holder <> $3 AND lease_until < clock_timestamp()))
                ORDER BY shard_id LIMIT $6
                FOR UPDATE SKIP LOCKED
            )
            UPDATE gateway_shards AS shard SET
                holder = $3, lease_until = clock_timestamp() + make_interval(secs => $4)
            FROM free
            WHERE application_id = $1 AND shard_count = $2 AND shard.shard_id = free.shard_id
            RETURNING shard.shard_id, epoch, free.holder IS NOT NULL AS is_taken_over
            """,
            self._application_id,
            shard_count,
            self._process_id,
            self._lease,
            list(shard_ids),
            most,
            lapsed,
        )
        return _Taken(
            {row["shard_id"]: row["epoch"] for row in rows},
            frozenset(row["shard_id"] for row in rows if row["is_taken_over"]),
        )

    async def _others(self, connection: Connection, shard_count: int) -> frozenset[int]:
        rows = await connection.fetch(
            """
            SELECT shard_id FROM gateway_shards
            WHERE application_id = $1 AND shard_count = $2 AND holder <> $3
                AND lease_until >= clock_timestamp()
            """,
            self._application_id,
            shard_count,
            self._process_id,
        )
        return frozenset(row["shard_id"] for row in rows)
