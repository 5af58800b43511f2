"""When shards were identified: the spacing Discord wants, and how often it did not help."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox_core.moments import MARGIN
from sandbox_core.postgres.pool import Pool, connected


@dataclass(frozen=True, slots=True)
class Attempts:
    """`in_a_row` IDENTIFYs of a shard without a session that stayed up, the last `seconds_ago`."""

    in_a_row: int
    seconds_ago: float


class IdentifyRows:
    """The IDENTIFYs of one application, by every process.

    Every method raises `DependencyUnavailable` when PostgreSQL is away.
    """

    def __init__(self, pool: Pool, application_id: int) -> None:
        self._pool = pool
        self._application_id = application_id

    async def take(self, bucket: int, spacing: float) -> float:
        """Take the bucket's turn: 0.0 when it is taken, else the seconds until it may be asked again.

        `spacing` is in seconds from one taken turn to the next.
        """
        async with connected(self._pool) as connection:
            taken = await connection.fetchval(
                """
                INSERT INTO gateway_identify_buckets AS earlier (application_id, bucket, identified_at)
                VALUES ($1, $2, clock_timestamp())
                ON CONFLICT (application_id, bucket) DO UPDATE SET identified_at = clock_timestamp()
                WHERE earlier.identified_at <= clock_timestamp() - make_interval(secs => $3)
                    -- A time still to come is no turn that anybody has taken.
                    OR earlier.identified_at > clock_timestamp() + make_interval(secs => $4)
                RETURNING true
                """,
                self._application_id,
                bucket,
                spacing,
                MARGIN,
            )
            if taken:
                return 0.0
            wait = await connection.fetchval(
                """
                SELECT extract(epoch FROM identified_at - clock_timestamp())::float8 + $3
                FROM gateway_identify_buckets WHERE application_id = $1 AND bucket = $2
                """,
                self._application_id,
                bucket,
                spacing,
            )
            # Never 0.0, which says that the turn is taken.
            return max(float(wait), 0.05)

    async def attempts(self, shard_id: int, shard_count: int) -> Attempts:
        """How often the shard was identified in vain."""
        async with connected(self._pool) as connection:
            row = await connection.fetchrow(
                """
                SELECT identifies,
                    greatest(extract(epoch FROM clock_timestamp() - identified_at), 0)::float8 AS seconds
                FROM gateway_shards WHERE application_id = $1 AND shard_count = $2 AND shard_id = $3
                """,
                self._application_id,
                shard_count,
                shard_id,
            )
        return Attempts(0, 0.0) if row is None else Attempts(row["identifies"], row["seconds"])

    async def count(self, shard_id: int, shard_count: int) -> None:
        """The shard is identified now."""
        async with connected(self._pool) as connection:
            await connection.execute(
                """
                INSERT INTO gateway_shards (application_id, shard_count, shard_id, identifies, identified_at)
                VALUES ($1, $2, $3, 1, clock_timestamp())
                ON CONFLICT (application_id, shard_count, shard_id) DO UPDATE
                SET identifies = gateway_shards.identifies + 1, identified_at = clock_timestamp()
                """,
                self._application_id,
                shard_count,
                shard_id,
            )

    async def stayed_up(self, shard_id: int, shard_count: int) -> None:
        """The shard's session has stayed up: what was before does not count any more."""
        async with connected(self._pool) as connection:
            await connection.execute(
                """
                UPDATE gateway_shards SET identifies = 0
                WHERE application_id = $1 AND shard_count = $2 AND shard_id = $3
                """,
                self._application_id,
                shard_count,
                shard_id,
            )
