"""`calls` and `level`: what a sandbox's bot asked of Discord, and what it may ask."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from redis.asyncio import Redis

from sandbox_core.models import RestLevel
from sandbox_gateway.calls import CallRecord, recording
from sandbox_gateway.tenants import Tenant

from .conftest import ALICE, BOB, GUILD, Shell
from .schemas import check

_RECORDS = [
    CallRecord(1_800_000_000.0, "POST", "/channels/{channel_id}/messages", 200, "", 12.5),
    CallRecord(1_800_000_001.0, "GET", "/guilds/{guild_id}", 403, "foreign_place", 0.4),
]


async def _record(shell: Shell, sandbox_id: str, *records: CallRecord) -> None:
    async with (
        Redis.from_url(shell.env["REDIS_URL"], decode_responses=True) as redis,
        recording(redis) as calls,
    ):
        before = await redis.xlen(f"sandbox:gateway:calls:{sandbox_id}")
        for record in records:
            calls.record_call(UUID(sandbox_id), record)
        async with asyncio.timeout(60):
            while await redis.xlen(f"sandbox:gateway:calls:{sandbox_id}") < before + len(records):
                await asyncio.sleep(0.01)


async def test_calls_are_shown_and_followed(shell: Shell) -> None:
    made = (await shell.ok("create", "watched", "--owner", ALICE, "--json")).json
    sandbox_id = made["sandbox"]["id"]
    assert "no calls" in (await shell.ok("calls", "watched")).out
    await _record(shell, sandbox_id, *_RECORDS)
    shown = (await shell.ok("calls", "watched")).out
    assert "/channels/{channel_id}/messages" in shown
    assert "foreign_place" in shown
    found = (await shell.ok("calls", "watched", "--json", "--limit", "1")).json
    check("calls", found)
    assert [each["refused"] for each in found["calls"]] == ["foreign_place"]

    process = await shell.start("calls", "watched", "--follow", "--limit", "1", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline())["status"] == 403
        await _record(shell, sandbox_id, _RECORDS[0])
        assert json.loads(await process.stdout.readline())["status"] == 200
    process.send_signal(signal.SIGINT)
    ended = await shell.ended(process)
    assert (ended.code, ended.err) == (0, "")

    refused = await shell("calls", "watched", "--owner", BOB)
    assert (refused.code, refused.err.split(":")[0]) == (1, "SANDBOX_010")
    await shell.ok("destroy", "watched", "--yes")


async def test_what_happened_to_sessions(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    # A gateway that ends gives up what Redis does not take soon.
    monkeypatch.setattr("sandbox_gateway.calls._AT_END_WITHIN", 60.0)
    made = (await shell.ok("create", "connected", "--owner", ALICE, "--json")).json
    sandbox_id = UUID(made["sandbox"]["id"])
    mine = Tenant(
        sandbox_id, "connected", ALICE, 0, RestLevel.FULL, frozenset(), datetime.now(UTC) + timedelta(hours=1)
    )
    address = shell.env["REDIS_URL"]
    async with Redis.from_url(address, decode_responses=True) as redis, recording(redis) as kept:
        kept.record_session(mine, "identified", {"shard": 0})
    found = (await shell.ok("sessions", "connected", "--json")).json
    check("sessions", found)
    assert [(each["what"], each["details"]) for each in found["sessions"]] == [("identified", {"shard": 0})]
    assert "identified" in (await shell.ok("sessions", "connected")).out
    await shell.ok("destroy", "connected", "--yes")


async def test_the_level_of_a_sandbox(shell: Shell) -> None:
    await shell.ok("create", "levelled", "--owner", ALICE)
    await shell.ok("register-guild", "levelled", GUILD, "--unchecked", "--yes")
    lowered = (await shell.ok("level", "levelled", "read_only", "--owner", ALICE, "--json")).json
    check("level", lowered)
    assert lowered["level"] == "read_only"
    # The operator may do everything, so Discord is not asked.
    assert "also kick and ban" in (await shell.ok("level", "levelled", "full")).out
    assert (await shell("level", "levelled", "everything")).code == 2
    refused = await shell("level", "levelled", "read_only", "--owner", BOB)
    assert (refused.code, refused.err.split(":")[0]) == (1, "SANDBOX_010")
    entries = (await shell.ok("audit", "levelled", "--json")).json["entries"]
    assert [each["details"] for each in entries if each["event"] == "rest_level_changed"] == [
        {"from": "no_moderation", "to": "read_only"},
        {"from": "read_only", "to": "full"},
    ]
    await shell.ok("destroy", "levelled", "--yes")
