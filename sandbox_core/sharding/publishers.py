"""The table `gateway_publishers`: who publishes an application's events, and who would."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sandbox_core.postgres.errors import translating
from sandbox_core.postgres.pool import Connection


class Kind(StrEnum):
    """What kind of process publishes."""

    STANDALONE = "standalone"
    """The bot of its own. Another standalone process can resume its sessions."""
    PLUGIN = "plugin"
    """`sandbox_cogs.gateway` in somebody else's bot, whose sessions are that bot's."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """One process. `name` is for people: `host:pid`."""

    application_id: int
    process_id: UUID
    kind: Kind = Kind.STANDALONE
    name: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a shard. `name` is for people: `host:pid`."""

    kind: Kind
    name: str
    shard_count: int
    shard_id: int
    since: datetime | None = None

    def __str__(self) -> str:
        """For people, such as `the plugin web-1:4711`."""
        return f"{words(self.kind)} {self.name or 'of an earlier version'}"


@dataclass(frozen=True, slots=True)
class StandsBy:
    """A process that would publish a shard which another one has."""

    application_id: int
    process_id: UUID
    kind: Kind
    name: str
    shard_count: int
    for_seconds: float
    """How long it has been there."""
    holder_id: UUID
    holder: Holder

    @property
    def is_planned(self) -> bool:
        """True for two standalone bots of one shard count: the second waits for the first to go."""
        kinds = {self.kind, self.holder.kind}
        return kinds == {Kind.STANDALONE} and self.shard_count == self.holder.shard_count


def words(kind: Kind) -> str:
    """A kind as it stands in a sentence."""
    return "the plugin" if kind is Kind.PLUGIN else "the standalone bot"


async def be_seen(
    connection: Connection, publisher: Publisher, shard_count: int, shard_ids: Collection[int] | None
) -> None:
    """Say that the process is there. Driver errors pass: the caller's transaction judges them."""
    await connection.execute(
        """
        INSERT INTO gateway_publishers
            (application_id, process_id, kind, name, shard_count, shard_ids, joined_at, seen_at)
        VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), clock_timestamp())
        ON CONFLICT (application_id, process_id) DO UPDATE SET
            shard_count = excluded.shard_count, shard_ids = excluded.shard_ids, seen_at = excluded.seen_at
        """,
        publisher.application_id,
        publisher.process_id,
        publisher.kind.value,
        publisher.name,
        shard_count,
        None if shard_ids is None else sorted(shard_ids),
    )


async def leave(connection: Connection, publisher: Publisher) -> None:
    """The process publishes nothing any more; rows of processes long gone go with it."""
    await connection.execute(
        """
        DELETE FROM gateway_publishers
        WHERE application_id = $1
            AND (process_id = $2 OR seen_at < clock_timestamp() - interval '1 hour')
        """,
        publisher.application_id,
        publisher.process_id,
    )


async def publishing(connection: Connection, application_id: int | None = None) -> list[Holder]:
    """Who publishes which shard now, of one application or of all."""
    with translating():
        rows = await connection.fetch(
            """
            SELECT s.shard_count, s.shard_id, s.held_since,
                coalesce(p.kind, 'standalone') AS kind, coalesce(p.name, g.name, '') AS name
            FROM gateway_shards AS s
            LEFT JOIN gateway_publishers AS p
                ON p.application_id = s.application_id AND p.process_id = s.holder
            LEFT JOIN gateway_processes AS g ON g.process_id = s.holder
            WHERE s.lease_until >= clock_timestamp() AND ($1::bigint IS NULL OR s.application_id = $1)
            ORDER BY s.application_id, s.shard_count, s.shard_id
            """,
            application_id,
        )
    return [
        Holder(Kind(row["kind"]), row["name"], row["shard_count"], row["shard_id"], row["held_since"])
        for row in rows
    ]


async def standing_by(
    connection: Connection, application_id: int | None = None, *, seen_within: float
) -> list[StandsBy]:
    """Who would publish, and does not because another process does: one entry for each such pair.

    `seen_within` is how many seconds ago a process may have been seen last.
    """
    with translating():
        rows = await connection.fetch(
            """
            SELECT DISTINCT ON (p.application_id, p.process_id, s.holder)
                p.application_id, p.process_id, p.kind, p.name, p.shard_count,
                extract(epoch FROM p.seen_at - p.joined_at)::float8 AS for_seconds,
                s.holder, s.shard_count AS held_count, s.shard_id, s.held_since,
                coalesce(h.kind, 'standalone') AS holder_kind, coalesce(h.name, g.name, '') AS holder_name
            FROM gateway_publishers AS p
            JOIN gateway_shards AS s
                ON s.application_id = p.application_id AND s.holder <> p.process_id
                AND s.lease_until >= clock_timestamp()
                AND (s.shard_count <> p.shard_count OR p.shard_ids IS NULL OR s.shard_id = ANY(p.shard_ids))
            LEFT JOIN gateway_publishers AS h
                ON h.application_id = s.application_id AND h.process_id = s.holder
            LEFT JOIN gateway_processes AS g ON g.process_id = s.holder
            WHERE p.seen_at > clock_timestamp() - make_interval(secs => $2)
                AND ($1::bigint IS NULL OR p.application_id = $1)
                -- Who shares the shards out with others and has some is not standing by.
                AND (p.shard_ids IS NOT NULL OR NOT EXISTS (
                    SELECT FROM gateway_shards AS own
                    WHERE own.application_id = p.application_id AND own.holder = p.process_id
                ))
            ORDER BY p.application_id, p.process_id, s.holder, s.shard_id
            """,
            application_id,
            seen_within,
        )
    return [
        StandsBy(
            row["application_id"],
            row["process_id"],
            Kind(row["kind"]),
            row["name"],
            row["shard_count"],
            row["for_seconds"],
            row["holder"],
            Holder(
                Kind(row["holder_kind"]),
                row["holder_name"],
                row["held_count"],
                row["shard_id"],
                row["held_since"],
            ),
        )
        for row in rows
    ]


async def claim_notice(
    connection: Connection, application_id: int, about: str, at: datetime, unsure: Collection[datetime] = ()
) -> bool:
    """Note that somebody is told about it; False when somebody was.

    `unsure` are the moments of the caller's own earlier notes that were not answered.
    """
    with translating():
        claimed = await connection.fetchval(
            """
            INSERT INTO gateway_notices (application_id, about, created_at) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING RETURNING true
            """,
            application_id,
            about,
            at,
        )
        if not claimed and unsure:
            claimed = await connection.fetchval(
                """
                SELECT true FROM gateway_notices
                WHERE application_id = $1 AND about = $2 AND created_at = ANY($3)
                """,
                application_id,
                about,
                list(unsure),
            )
    return bool(claimed)


async def withdraw_notice(connection: Connection, application_id: int, about: str) -> None:
    """Take back the note of a notice that certainly was not sent."""
    with translating():
        await connection.execute(
            "DELETE FROM gateway_notices WHERE application_id = $1 AND about = $2", application_id, about
        )
