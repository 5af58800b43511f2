"""The table `gateway_resume_points`: where sessions can be resumed, for as long as Redis can't keep it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sandbox_core.models import ResumePoint
from sandbox_core.postgres.pool import Pool, connected


class ResumePointRows:
    """Loads and saves resume points. Raises `DependencyUnavailable` when PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self, application_id: int, shard_id: int, shard_count: int) -> ResumePoint | None:
        """The shard's resume point as saved here last, or None."""
        async with connected(self._pool) as connection:
            row = await connection.fetchrow(
                """
                SELECT session_id, resume_url, sequence, since, saved_at, epoch FROM gateway_resume_points
                WHERE application_id = $1 AND shard_count = $2 AND shard_id = $3
                """,
                application_id,
                shard_count,
                shard_id,
            )
        if row is None:
            return None
        return ResumePoint(
            row["session_id"],
            row["resume_url"],
            row["sequence"],
            row["since"].timestamp(),
            row["saved_at"].timestamp(),
            row["epoch"],
        )

    async def save(self, application_id: int, shard_count: int, points: Mapping[int, ResumePoint]) -> None:
        """Keep these shards' resume points, but for those that `ResumePointStore.save` refuses."""
        async with connected(self._pool) as connection:
            await connection.executemany(
                """
                INSERT INTO gateway_resume_points AS kept (
                    application_id, shard_count, shard_id,
                    session_id, resume_url, sequence, since, saved_at, epoch
                )
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                ON CONFLICT (application_id, shard_count, shard_id) DO UPDATE SET
                    session_id = excluded.session_id, resume_url = excluded.resume_url,
                    sequence = excluded.sequence, since = excluded.since, saved_at = excluded.saved_at,
                    epoch = excluded.epoch
                WHERE excluded.epoch >= kept.epoch
                    AND (excluded.session_id <> kept.session_id OR excluded.sequence >= kept.sequence)
                """,
                [
                    (
                        application_id,
                        shard_count,
                        shard_id,
                        point.session_id,
                        point.resume_url,
                        point.sequence,
                        datetime.fromtimestamp(point.since, UTC),
                        datetime.fromtimestamp(point.saved_at, UTC),
                        point.epoch,
                    )
                    for shard_id, point in points.items()
                ],
            )

    async def forget(self, application_id: int, shard_id: int, shard_count: int, session_id: str) -> None:
        """This session is gone: nobody may try to resume it again. A newer session's point stays."""
        async with connected(self._pool) as connection:
            await connection.execute(
                """
                DELETE FROM gateway_resume_points
                WHERE application_id = $1 AND shard_count = $2 AND shard_id = $3 AND session_id = $4
                """,
                application_id,
                shard_count,
                shard_id,
                session_id,
            )
