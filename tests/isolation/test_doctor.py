"""`doctor` and `/readyz` about the sandboxes' own servers."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import asyncpg
from structlog.testing import capture_logs

from sandbox_bot.doctor import Finding, State, check_servers
from sandbox_bot.doctor.tenants import POSTGRES, REDIS
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.dependencies import SANDBOX_NATS
from sandbox_core.ops.readiness import Readiness
from sandbox_core.settings import Settings
from sandbox_core.tenant_side import TENANT_POSTGRES, TENANT_REDIS

from .conftest import opened, settings_of
from .gateway import PRODUCTION, Gateway, publishing


async def found(core: Core, area: str) -> list[Finding]:
    return [finding for finding in await check_servers(core) if finding.area == area]


async def test_all_is_well_and_nothing_is_left(core: Core, admin: asyncpg.Connection) -> None:
    findings = await check_servers(core)
    for area in (POSTGRES, REDIS, SANDBOX_NATS):
        mine = [finding for finding in findings if finding.area == area]
        assert not any(finding.wrong for finding in mine), mine
        assert "a trial's part and login were made" in [finding.detail for finding in mine]
    assert "its accounts have the limits of the settings" in [finding.detail for finding in findings]
    assert any("the server of the bot's own database" in finding.detail for finding in findings)
    assert await admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname ~ '^sandbox_'") == 0
    assert await core.namespaces[1].list_ids() == set()
    assert await core.namespaces[2].list_ids() == set()


async def test_what_is_missing_is_named_with_its_remedy(core: Core, admin: asyncpg.Connection) -> None:
    await admin.execute("ALTER ROLE sandbox NOCREATEROLE")
    try:
        findings = await found(core, POSTGRES)
    finally:
        await admin.execute("ALTER ROLE sandbox CREATEROLE")
    wrong = [finding for finding in findings if finding.wrong]
    assert [finding.state for finding in wrong] == [State.FAILED]
    assert "may not make roles" in wrong[0].detail
    assert 'ALTER ROLE "sandbox" CREATEROLE;' in wrong[0].mend


async def test_accounts_with_other_limits_than_the_settings_are_said(closed: EmbeddedServers) -> None:
    """The server's configuration was printed before the settings changed."""
    changed = settings_of(closed, sandbox_stream_mb=24, sandbox_stream_consumers=7)
    async with opened(changed) as core:
        (wrong,) = [finding for finding in await found(core, SANDBOX_NATS) if finding.wrong]
    assert wrong.state == State.FAILED
    assert "33,554,432 bytes of memory (SANDBOX_STREAM_MB) and not 25,165,824" in wrong.detail
    assert "50 consumers (SANDBOX_STREAM_CONSUMERS) and not 7" in wrong.detail
    assert "sandboxctl tenant-nats" in wrong.mend


async def test_a_tenant_server_that_is_away_is_told_apart(core: Core, closed: EmbeddedServers) -> None:
    await closed.tenant_valkey.kill()
    try:
        (away,) = await found(core, REDIS)
        assert (away.state, away.where) == (State.AWAY, f"127.0.0.1:{closed.tenant_valkey.port}")
        assert "SANDBOX_REDIS_URL" in away.mend
        health = await core.health.check_system()
        states = {part.store: part.state for part in health.checks}
        assert (states["Redis"], states[TENANT_REDIS], states[TENANT_POSTGRES]) == (
            "healthy",
            "unhealthy",
            "healthy",
        )
        readiness = Readiness()
        readiness.attach(core, _Gateway())
        report = await readiness.report()
        assert (report.ready, report.isolation) == (True, "enforced")
        assert set(report.degraded) == {TENANT_REDIS}
    finally:
        await closed.tenant_valkey.start()


async def test_a_nats_server_that_is_away_is_told_apart(core: Core, closed: EmbeddedServers) -> None:
    await closed.tenant_nats.kill()
    try:
        (away,) = await found(core, SANDBOX_NATS)
        assert (away.state, away.where) == (State.AWAY, f"127.0.0.1:{closed.tenant_nats.port}")
        assert "SANDBOX_NATS_URL" in away.mend
        readiness = Readiness()
        readiness.attach(core, _Gateway())
        report = await readiness.report()
        assert (report.ready, set(report.degraded)) == (True, {SANDBOX_NATS})
    finally:
        await closed.tenant_nats.start()


async def test_convention_is_said(closed: EmbeddedServers, enforced: Settings) -> None:
    async with opened(settings_of(closed, sandbox_isolation="convention")) as core:
        (finding,) = await found(core, "Sandboxes")
    assert (finding.state, finding.detail) == (
        State.NOTE,
        "they keep apart by convention (SANDBOX_ISOLATION)",
    )


async def test_settings_without_servers_for_sandboxes_are_said_everywhere(closed: EmbeddedServers) -> None:
    """And nothing else is missing: production's events go on."""
    with capture_logs() as logs:
        async with publishing(settings_of(closed, **dict.fromkeys(closed.tenant_settings))) as core:
            (finding,) = await found(core, "Sandboxes")
            readiness = Readiness()
            readiness.attach(core, _Gateway())
            report = await readiness.report()
            gateway = Gateway(core, uuid4().hex)
            made = gateway.send(PRODUCTION)
            await gateway.done()
            assert made in await gateway.production()
    lacking = (
        "SANDBOX_DATABASE_URL, SANDBOX_REDIS_URL, SANDBOX_NATS_URL and SANDBOX_CREDENTIALS_KEY are not set"
    )
    assert (finding.state, finding.detail) == (State.FAILED, f"none can be made: {lacking}")
    assert "SANDBOX_ISOLATION=convention" in finding.mend
    assert (report.ready, report.degraded) == (True, {"Isolation": f"no new sandboxes: {lacking}"})
    (told,) = [entry for entry in logs if entry["event"] == "no_new_sandboxes"]
    assert (told["log_level"], told["code"], told["reason"]) == ("warning", "SANDBOX_013", lacking)


class _Gateway:
    """A gateway that is well."""

    gateway_trouble = ""
    standing_by = False
    gateway_latency = None


async def test_templates_are_read(closed: EmbeddedServers, tmp_path: Path) -> None:
    (tmp_path / "shop.sql").write_text("CREATE TABLE public.t (a int);")
    (tmp_path / "wrong.sql").write_text("SELECT 1;\nDROP DATABASE x;")
    async with opened(settings_of(closed, sandbox_templates_dir=str(tmp_path))) as core:
        wrong, right = await found(core, "Templates")
        assert await found(core, "Nothing") == []
    assert (wrong.state, right.state) == (State.FAILED, State.OK)
    assert "wrong.sql, line 2" in wrong.detail
    assert right.detail == "1 template can be read"
