"""Servers that are away: nobody new comes in on a guess, and nobody is lost for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.postgres import connected as pooled
from sandbox_core.postgres import sandboxes
from sandbox_gateway.following import Pace
from tests.conftest import revive
from tests.e2e.harness import get

from .raw import connected
from .stage import QUICK, Process, Stage, until
from .test_resume import contents


async def test_nobody_new_comes_in_while_postgres_is_away(stage: Stage, closed: EmbeddedServers) -> None:
    process = await stage.start(replace(QUICK, pace=Pace(every=0.1, stale_after=0.5)))
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        await closed.postgres.stop()
        try:
            await until(lambda: process.endpoint.tenants.stale)
            assert (await get(process.url, "/readyz"))[0] == 503
            async with connected(process) as late:
                await late.send(2, {"token": stage.token(mine), "intents": 1})
                assert await late.close_code() == 4000
            await raw.send(1, raw.sequence)
            assert (await raw.receive())["op"] == 11
        finally:
            await revive(closed.postgres)
        await until(lambda: not process.endpoint.tenants.stale)
        async with connected(process) as again:
            await again.identify(stage.token(mine))
        stage.sim.message(stage.guilds[0], content="goes on")
        await raw.until_content("goes on")


async def test_an_expiry_waits_for_no_answer_of_postgres(
    stage: Stage, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    monkeypatch.setattr("sandbox_gateway.following._READ_WITHIN", 60.0)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        ends = datetime.now(UTC) + timedelta(seconds=1.5)
        async with pooled(stage.core.pool) as connection:
            await sandboxes.set_expiry(connection, mine.id, ends)
            await until(lambda: _expiry(process, mine.id) == ends)
            async with connection.transaction():
                await connection.execute("LOCK TABLE sandboxes IN ACCESS EXCLUSIVE MODE")
                assert await raw.close_code() == 4004


def _expiry(process: Process, sandbox_id: UUID) -> datetime | None:
    tenant = process.endpoint.tenants.current(sandbox_id)
    return None if tenant is None else tenant.expires_at


async def test_without_redis_a_session_goes_on_and_a_resume_waits(
    stage: Stage, closed: EmbeddedServers
) -> None:
    process = await stage.start()
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw, connected(process) as cut:
        await raw.identify(stage.token(mine))
        await cut.resume(stage.token(mine), raw.session_id, 2)
        await cut.until_event("RESUMED")
        await closed.valkey.stop()
        try:
            stage.sim.message(guild, content="one")
            await cut.until_content("one")
            async with connected(process) as early:
                await early.resume(stage.token(mine), raw.session_id, 2)
                # Not op 9: the session is still there.
                assert await early.close_code() == 4000
        finally:
            await revive(closed.valkey)
    async with connected(process) as again:
        await again.resume(stage.token(mine), raw.session_id, 2)
        found = await again.receive()
        # What Redis has lost with its restart can't be resumed, and that is said.
        assert found["d"] is False or contents([found]) == ["one"]
