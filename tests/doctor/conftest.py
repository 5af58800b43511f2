"""Servers that are broken in one way each, all of them real, and what `doctor` finds there."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sandbox_bot.doctor import Finding, State, check_servers
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import NatsUse, open_core
from sandbox_core.settings import load_settings
from tests.conftest import TemplateDatabase, create_database, revive

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Found:
    """What `doctor` found in one area."""

    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.wrong]

    @property
    def text(self) -> str:
        return "\n".join(f"{each.state}: {each.detail} | {each.mend}" for each in self.findings)

    def only(self) -> Finding:
        """The one thing that is to be mended."""
        assert len(self.wrong) == 1, self.text
        return self.wrong[0]

    def well(self) -> None:
        assert self.findings, "nothing was looked at"
        assert not self.wrong, self.text


Doctor = Callable[..., Awaitable[Found]]


@pytest.fixture
async def doctor(
    servers: EmbeddedServers, database_url: str, redis_url: str, nats_url: str, impatient: None
) -> Doctor:
    """Looks at the suite's servers, or at others by the settings that are given."""

    async def look(
        area: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), **settings: Any
    ) -> Found:
        given = {"database_url": database_url, "redis_url": redis_url, "nats_url": nats_url, **settings}
        chosen = load_settings(_env_file=None, **given)
        async with open_core(chosen, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
            findings = await check_servers(core, clock=clock)
        for finding in findings:
            for secret in map(_password, (given["database_url"], given["redis_url"], given["nats_url"])):
                assert not secret or secret not in repr(finding)
        return Found(tuple(finding for finding in findings if finding.area == area))

    return look


def _password(url: str) -> str:
    return urlsplit(url).password or ""


@dataclass(frozen=True)
class Postgres:
    """A database and a role of the test's own, which may do nothing yet."""

    admin: asyncpg.Connection[Any]
    """A superuser, connected to the database."""
    role: str
    database: str
    url: str
    """For the role."""

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self.admin.execute(statement)


@pytest.fixture
async def migrated(servers: EmbeddedServers, template_db: TemplateDatabase) -> AsyncIterator[Postgres]:
    """A migrated database whose tables belong to another role."""
    async for made in _made(servers, template_db.name):
        yield made


@pytest.fixture
async def empty(servers: EmbeddedServers) -> AsyncIterator[Postgres]:
    """A database with nothing in it, which belongs to another role."""
    async for made in _made(servers, "template0"):
        yield made


async def _made(servers: EmbeddedServers, template: str) -> AsyncIterator[Postgres]:
    await revive(servers.postgres)
    name, password = f"doctor_{next(_numbers)}", secrets.token_urlsafe(12)
    await create_database(servers, name, template=template)
    admin_url = urlsplit(servers.postgres.admin_url)._replace(path=f"/{name}")
    admin = await asyncpg.connect(urlunsplit(admin_url))
    try:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        netloc = f"{name}:{password}@{servers.postgres.url.rsplit('@', 1)[1].split('/')[0]}"
        yield Postgres(admin, name, name, f"postgresql://{netloc}/{name}")
    finally:
        await admin.close()
        server = await asyncpg.connect(servers.postgres.admin_url)
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.execute(f"DROP ROLE {name}")
        await server.close()


def states(found: Found) -> set[State]:
    return {finding.state for finding in found.findings}
