"""Random lives: whatever people ask for, in whatever order and whatever fails, the rules of a life hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.manager import SandboxManager
from sandbox_core.models import AuditEvent, Route, Sandbox, SandboxStatus
from sandbox_core.postgres import audit, connected
from sandbox_core.subjects import redis_prefix, sandbox_subject
from tests.streams import streams_at

from .conftest import GUILDS, START, Yard
from .life_model import (
    ALICE,
    HAS_SCHEMA,
    LIMITS,
    Away,
    Cleanup,
    Command,
    Create,
    Destroy,
    Extend,
    Fault,
    Model,
    Register,
    Unregister,
    Wait,
    access,
    changes,
    creations,
    faults,
)


class Life:
    """Carries commands out, and knows whether something has failed so far."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.manager: SandboxManager = yard.another_manager(limits=LIMITS)
        self.model = Model()
        self.failed = False

    async def begin(self) -> None:
        """Nothing is left of the example before."""
        for part in self.yard.parts:
            part.away = None
        self.yard.faults.at.clear()
        self.yard.routes.current.clear()
        self.yard.clock.now = START
        for schema in await self.yard.schemas.list_schemas():
            await self.yard.schemas.drop_schema(schema)
        await self.yard.pool.execute("TRUNCATE sandboxes, sandbox_audit_log CASCADE")
        await self.yard.redis.flushdb()
        for stream in await streams_at(self.yard.js).names():
            await self.yard.js.delete_stream(stream)

    async def step(self, command: Command) -> None:
        if isinstance(command, Wait):
            self.yard.clock.forward(minutes=command.minutes)
        elif isinstance(command, Fault):
            error = asyncio.CancelledError() if command.cancelled else ConnectionResetError()
            self.yard.faults.at[command.point] = error
            self.failed = True
        elif isinstance(command, Away):
            part = next(each for each in self.yard.parts if each.store == command.store)
            part.away = None if command.back else DependencyUnavailable(command.store, "it is away")
            self.failed |= not command.back
        else:
            await self._ask(command)

    async def _ask(self, command: Command) -> None:
        before = {row.id for row in await self.manager.list() if row.status is SandboxStatus.RUNNING}
        try:
            await self._do(command)
            answer = ""
        except SandboxError as error:
            answer = error.code
        except (asyncio.CancelledError, ConnectionResetError):
            answer = "stopped"
        self.yard.faults.at.clear()
        now = {row.id for row in await self.manager.list() if row.status is SandboxStatus.RUNNING}
        if isinstance(command, Create):
            assert len(now - before) == (answer == ""), "a creation is the whole of it, or nothing"
        if self.failed:
            self.model.learn(await self.manager.list())
        else:
            assert answer == self.model.answer(command, self.yard.clock.now)

    async def _do(self, command: Command) -> None:
        manager = self.manager
        match command:
            case Create(actor, name, ttl, guilds):
                accesses = [access(guild, manages=True) for guild in guilds]
                await manager.create(actor, name=name, ttl=ttl, guilds=accesses)
                made = await manager.get(name)
                await self.yard.redis.set(redis_prefix(made.id) + "x", "x")
                await self.yard.js.publish(sandbox_subject(made.id, "X"), b"{}")
            case Register(actor, name, guild):
                await manager.register_guild(actor, name, access(guild, manages=True))
            case Unregister(actor, guild, name):
                await manager.unregister_guild(actor, access(guild, manages=False), reference=name)
            case Extend(actor, name, duration):
                await manager.extend(actor, name, duration)
            case Destroy(actor, name):
                await manager.destroy(actor, name)
            case Cleanup():
                await self.yard.cleanup.run()

    async def check(self) -> None:
        """What holds at any moment, on the real servers."""
        rows = await self.manager.list(include_destroyed=True)
        schemas = await self.yard.schemas.list_ids()
        assert {row.short_id for row in rows if row.status is SandboxStatus.RUNNING} <= schemas
        assert schemas <= {row.short_id for row in rows if row.status in HAS_SCHEMA}
        for row in rows:
            assert not row.guild_ids or row.status is SandboxStatus.RUNNING
            assert row.status is not SandboxStatus.PENDING
            assert (row.destroyed_at is not None) == (row.status is SandboxStatus.DESTROYED)
            await self._explained(row)
        report = await self.yard.cleanup.find_orphaned_resources()
        assert report.degraded == ()
        if self.failed:
            return
        assert {row.status for row in rows} <= {SandboxStatus.RUNNING, SandboxStatus.DESTROYED}
        assert report.orphans == ()
        live = {row.name: row for row in rows if row.status is SandboxStatus.RUNNING}
        assert {name: (row.expires_at, set(row.guild_ids)) for name, row in live.items()} == {
            name: (box.expires_at, box.guilds) for name, box in self.model.boxes.items()
        }
        self._routed(live.values())

    def _routed(self, live: Any) -> None:
        """This process sends each guild's events where the rows say, at this moment."""
        now = self.yard.clock.now
        holders = {guild: str(row.id) for row in live if row.routes_at(now) for guild in row.guild_ids}
        for guild in GUILDS:
            route: Route | None = self.yard.routes.current.get(guild)
            receives = route is not None and now.timestamp() < route.expires_at
            assert (route.sandbox_id if route is not None and receives else None) == holders.get(guild)

    async def _explained(self, row: Sandbox) -> None:
        """Read one after the other, the audit log's entries lead to exactly this row."""
        async with connected(self.yard.pool) as connection:
            entries = await audit.entries(connection, row.id, limit=1000)
        status, guilds, expires_at = "", set[str](), ""
        for entry in entries:
            details = entry.details
            assert entry.actor
            match entry.event_type:
                case AuditEvent.CREATED:
                    assert status == ""
                    status, expires_at = "pending", details["expires_at"]
                case AuditEvent.STATUS_CHANGED:
                    assert details["from"] == status
                    status = details["to"]
                case AuditEvent.DESTROYING:
                    assert details["from"] == status
                    status = "destroying"
                case AuditEvent.DESTROYED:
                    assert status == "destroying"
                    status = "destroyed"
                case AuditEvent.GUILD_REGISTERED:
                    assert details["guild_id"] not in guilds
                    guilds.add(details["guild_id"])
                case AuditEvent.GUILD_UNREGISTERED:
                    guilds.remove(details["guild_id"])
                case AuditEvent.TTL_EXTENDED:
                    assert details["from"] == expires_at
                    expires_at = details["to"]
        assert (status, guilds) == (row.status.value, set(row.guild_ids))
        assert datetime.fromisoformat(expires_at) == row.expires_at

    async def end(self) -> None:
        """Everything works again, every life is over: passes at their times leave nothing at all."""
        self.yard.faults.at.clear()
        for part in self.yard.parts:
            part.away = None
        self.yard.clock.forward(hours=12)
        for _ in range(3):
            with suppress(SandboxError):
                await self.yard.cleanup.run()
            self.yard.clock.forward(minutes=11)
        self.model.boxes.clear()
        await self.check()
        rows = await self.manager.list(include_destroyed=True)
        assert {row.status for row in rows} <= {SandboxStatus.DESTROYED}
        assert await self.yard.schemas.list_ids() == set()
        assert await self.yard.redis.keys("*") == []
        assert await streams_at(self.yard.js).names() == []
        self._routed([])


async def live_through(yard: Yard, commands: Sequence[Command]) -> None:
    life = Life(yard)
    await life.begin()
    for command in commands:
        await life.step(command)
        await life.check()
    await life.end()


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(changes, max_size=15))
async def test_every_answer_and_every_rule_while_nothing_fails(yard: Yard, commands: list[Command]) -> None:
    await live_through(yard, commands)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(changes, creations, faults), max_size=15))
@example(
    [Create(ALICE, "one-box", "1m", ()), Wait(1), Fault("destroy:destroying", cancelled=False), Cleanup()]
)
@example([Create(ALICE, "one-box", "1m", ()), Wait(1), Fault("destroy:expired", cancelled=False), Cleanup()])
async def test_every_rule_whatever_fails(yard: Yard, commands: list[Command]) -> None:
    await live_through(yard, commands)
