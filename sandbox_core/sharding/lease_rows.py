"""The tables of the gateway's shards: who holds which, and the spacing of IDENTIFYs.

Every moment in them is the database's. A lease is this process's for `lease` seconds from before the call
that took or renewed it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from uuid import UUID

from sandbox_core.moments import MARGIN
from sandbox_core.postgres.pool import Connection, Pool, connected, place_of, transaction

from . import other_leases, publishers
from .lease_types import FoundShard, Leases, Predecessor
from .other_leases import Latest, Lease
from .publishers import Kind, Publisher
from .taken import Taken, Unconfirmed


def _nothing_settled() -> Mapping[int, float]:
    return {}


class ShardRows:
    """The leases of one process on the shards of one application.

    Of two processes with different numbers of shards one publishes: their shards overlap, whatever their
    numbers are. `kind` and `name` are what others are told of this process. `settled` tells, by shard, before
    how many seconds everything that happened is stored. `lease` is in seconds. Every method raises
    `DependencyUnavailable` when PostgreSQL is away.
    """

    def __init__(
        self,
        pool: Pool,
        application_id: int,
        process_id: UUID,
        *,
        lease: float,
        kind: Kind = Kind.STANDALONE,
        name: str = "",
        settled: Callable[[], Mapping[int, float]] = _nothing_settled,
    ) -> None:
        self._pool = pool
        self._application_id = application_id
        self._process_id = process_id
        self._lease = lease
        self._this = Publisher(application_id, process_id, kind, name)
        self._settled = settled
        self._unconfirmed = Unconfirmed()

    @property
    def where(self) -> str:
        """The host and the port of PostgreSQL."""
        return place_of(self._pool)

    async def agree(self, recommended: int) -> int:
        """The number of shards that live processes use; `recommended` when there are none.

        This process counts among them from now on.
        """
        async with transaction(self._pool) as connection:
            # Two processes that start together must not agree on two numbers.
            await self._alone(connection)
            used: int | None = await connection.fetchval(
                """
                SELECT shard_count FROM (
                    SELECT shard_count FROM gateway_publishers
                    WHERE application_id = $1 AND shard_ids IS NULL
                        AND seen_at > clock_timestamp() - make_interval(secs => $2)
                    UNION ALL
                    SELECT shard_count FROM gateway_shards
                    WHERE application_id = $1 AND lease_until > clock_timestamp()
                        AND lease_until <= clock_timestamp() + make_interval(secs => $3)
                ) AS live
                LIMIT 1
                """,
                self._application_id,
                self._lease,
                self._lease + MARGIN,
            )
            count = used or recommended
            await publishers.be_seen(connection, self._this, count, None)
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

    async def share(
        self,
        shard_count: int,
        *,
        may_take_lapsed: bool,
        taking: bool,
        orphaned: Collection[Lease] = (),
    ) -> Leases:
        """Renew this process's leases, and while `taking` take free shards up to its fair share.

        `may_take_lapsed` also takes shards whose leases have lapsed, and of `orphaned` those that nobody has
        renewed.
        """
        asked_at = self._look()
        async with transaction(self._pool) as connection:
            mine = await self._renew(connection, shard_count)
            kept = self._unconfirmed.kept(mine, asked_at)
            await publishers.be_seen(connection, self._this, shard_count, None if taking else ())
            place, number = await self._place(connection, shard_count)
            share = _share(shard_count, place, number)
            # What nobody can resume is taken by who stands by for it.
            preferred = [n for n in range(shard_count) if number and n % number == place]
            missing = share - len(mine) if taking else 0
            taken = kept | await self._take(
                connection,
                shard_count,
                range(shard_count),
                missing,
                preferred,
                lapsed=may_take_lapsed,
                orphaned=orphaned,
            )
            leases = await self._leases(connection, shard_count, Taken(mine) | taken, preferred, share)
            self._unconfirmed.commits(asked_at, taken)
        self._unconfirmed.confirmed()
        return leases

    async def fix(
        self,
        shard_count: int,
        shard_ids: Collection[int],
        running: Collection[int],
        *,
        may_take_lapsed: bool,
        taking: bool,
        orphaned: Collection[Lease] = (),
    ) -> Leases:
        """As `share`, for a process whose shards are fixed; a lapsed one that is `running` here is ours."""
        asked_at = self._look()
        async with transaction(self._pool) as connection:
            mine = await self._renew(connection, shard_count)
            taken = self._unconfirmed.kept(mine, asked_at)
            await publishers.be_seen(connection, self._this, shard_count, shard_ids)
            if taking:
                missing = set(shard_ids) - mine.keys()
                taken |= await self._take(
                    connection,
                    shard_count,
                    missing,
                    len(missing),
                    lapsed=may_take_lapsed,
                    orphaned=orphaned,
                )
                unleased = set(running) - mine.keys() - taken.shards.keys()
                taken |= await self._take(connection, shard_count, unleased, len(unleased), lapsed=True)
            ours = Taken(mine) | taken
            leases = await self._leases(connection, shard_count, ours, shard_ids, len(shard_ids))
            self._unconfirmed.commits(asked_at, taken)
        self._unconfirmed.confirmed()
        return leases

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
            await publishers.leave(connection, self._this)

    async def latest(self, shard_count: int, shard_ids: Collection[int]) -> Mapping[int, Latest]:
        """Who has these shards now, and with which epoch."""
        async with connected(self._pool) as connection:
            return await other_leases.latest(connection, self._this, shard_count, shard_ids)

    def _look(self) -> float:
        """Begin a turn; return its moment."""
        # Also while PostgreSQL is away: what was seen meanwhile proves afterwards what is stored.
        self._settled()
        return self._unconfirmed.turn_begins()

    async def _alone(self, connection: Connection) -> None:
        """From here to the end of the transaction no other process of the application takes anything."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('gateway shards ' || $1::text, 0))",
            str(self._application_id),
        )

    async def _renew(self, connection: Connection, shard_count: int) -> dict[int, FoundShard]:
        settled = self._settled()
        rows = await connection.fetch(
            """
            UPDATE gateway_shards SET
                lease_until = clock_timestamp() + make_interval(secs => $4),
                settled_at = greatest(settled_at, (
                    SELECT clock_timestamp() - make_interval(secs => told.ago)
                    FROM unnest($5::integer[], $6::float8[]) AS told (shard, ago) WHERE told.shard = shard_id
                ))
            WHERE application_id = $1 AND shard_count = $2 AND holder = $3
            RETURNING shard_id, epoch, stale_epoch
            """,
            self._application_id,
            shard_count,
            self._process_id,
            self._lease,
            list(settled.keys()),
            list(settled.values()),
        )
        return {row["shard_id"]: FoundShard(row["epoch"], row["stale_epoch"]) for row in rows}

    async def _place(self, connection: Connection, shard_count: int) -> tuple[int, int]:
        """This process's place among those that share the shards out, and their number; 0, 0 without."""
        rows = await connection.fetch(
            """
            SELECT process_id FROM gateway_publishers AS publisher
            WHERE application_id = $1 AND shard_count = $2 AND shard_ids IS NULL
                AND publisher.seen_at > clock_timestamp() - make_interval(secs => $3)
                AND NOT EXISTS (
                    SELECT FROM gateway_processes AS process
                    WHERE process.process_id = publisher.process_id
                        AND sandbox_session_is_over(process.session)
                )
            ORDER BY joined_at, process_id
            """,
            self._application_id,
            shard_count,
            self._lease,
        )
        order = [row["process_id"] for row in rows]
        return (order.index(self._process_id), len(order)) if self._process_id in order else (0, 0)

    async def _take(
        self,
        connection: Connection,
        shard_count: int,
        shard_ids: Collection[int],
        most: int,
        preferred: Collection[int] = (),
        *,
        lapsed: bool,
        orphaned: Collection[Lease] = (),
    ) -> Taken:
        if most <= 0:
            return Taken()
        await self._alone(connection)
        foreign = await other_leases.foreign(connection, self._this, shard_count)
        if any(held.is_live or not lapsed for held in foreign):
            return Taken()
        rows = await connection.fetch(
            """
            WITH free AS (
                SELECT shard_id, holder FROM gateway_shards
                WHERE application_id = $1 AND shard_count = $2 AND shard_id = ANY($5)
                    AND (
                        holder IS NULL
                        -- No lease lasts longer than a lease: such a time was not written by its holder.
                        OR ($7 AND holder <> $3 AND lease_until NOT BETWEEN clock_timestamp()
                            AND clock_timestamp() + make_interval(secs => $13))
                        OR (shard_id, holder, lease_until) IN (
                            SELECT * FROM unnest($10::integer[], $11::uuid[], $12::timestamptz[])
                        )
                    )
                ORDER BY shard_id <> ALL($8), shard_id LIMIT $6
                FOR UPDATE SKIP LOCKED
            )
            UPDATE gateway_shards AS shard SET
                holder = $3, lease_until = clock_timestamp() + make_interval(secs => $4),
                held_since = clock_timestamp(),
                -- A plugin's session is resumed by nobody, and what it publishes has other message ids.
                stale_epoch = CASE WHEN $9 THEN epoch + 1 ELSE stale_epoch END
            FROM free
            WHERE application_id = $1 AND shard_count = $2 AND shard.shard_id = free.shard_id
            RETURNING shard.shard_id, epoch, stale_epoch, free.holder IS NOT NULL AS is_taken_over,
                extract(epoch FROM clock_timestamp() - settled_at)::float8 AS settled_ago
            """,
            self._application_id,
            shard_count,
            self._process_id,
            self._lease,
            list(shard_ids),
            most,
            lapsed,
            list(preferred),
            self._this.kind is Kind.PLUGIN,
            [lease.shard_id for lease in orphaned],
            [lease.holder_id for lease in orphaned],
            [lease.until for lease in orphaned],
            self._lease + MARGIN,
        )
        if not rows:
            return Taken()
        others = await other_leases.supersede(connection, self._this, shard_count)
        taken = {}
        for row in rows:
            after = None
            if others.was_any or row["epoch"] > 1:
                known = [ago for ago in (row["settled_ago"], others.settled_ago) if ago is not None]
                after = Predecessor(min(known, default=None))
            taken[row["shard_id"]] = FoundShard(
                row["epoch"], row["stale_epoch"], is_taken_over=row["is_taken_over"], after=after
            )
        return Taken(taken, others.epochs)

    async def _leases(
        self, connection: Connection, shard_count: int, ours: Taken, wanted: Collection[int], share: int
    ) -> Leases:
        held = {
            one.holder.shard_id: one for one in await other_leases.held(connection, self._this, shard_count)
        }
        shards = {n: FoundShard(held_by=one.holder, is_others=one.is_live) for n, one in held.items()}
        shards |= ours.shards
        missing = [n for n in wanted if n not in ours.shards] if len(ours.shards) < share else []
        foreign = await other_leases.foreign(connection, self._this, shard_count) if missing else []
        for n in missing:
            if (one := held.get(n)) is not None:
                resumable = Kind.PLUGIN not in {self._this.kind, one.holder.kind}
                renewed_ago = self._lease - one.lapses_in
                shards[n] = replace(
                    shards[n],
                    waits_for=one.holder,
                    standby=None if resumable else Predecessor(one.settled_ago, one.holder, renewed_ago),
                    orphaned=one.lease if one.is_over else None,
                )
            elif foreign:
                ago = other_leases.settled_of_all(
                    foreign[0].holder.shard_count, [each.settled_ago for each in foreign]
                )
                renewed_ago = self._lease - min(each.lapses_in for each in foreign)
                before = Predecessor(ago, foreign[0].holder, renewed_ago)
                shards[n] = FoundShard(waits_for=foreign[0].holder, standby=before)
        return Leases(shards, share, ours.superseded)


def _share(shard_count: int, place: int, number: int) -> int:
    """Shares differ by one at most, and the larger ones are those of the longest-standing processes."""
    if not number:
        return 0
    least, rest = divmod(shard_count, number)
    return least + (place < rest)
