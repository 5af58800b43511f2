"""What the containers do to keep sandboxes apart, done to real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr
from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_bot.embedded import PostgresServer
from sandbox_bot.embedded._programs import postgres_programs, valkey_program
from sandbox_core.credentials import CredentialsKey
from sandbox_core.hindrance import hindrance
from sandbox_core.namespaces.postgres_abilities import ABILITIES, lacking_abilities
from sandbox_core.nats.tenant.keys import TenantKeys
from sandbox_core.settings import Settings
from tests.conftest import ROOT
from tests.deploy.test_containers import services
from tests.deploy.tools import DEPLOY
from tests.e2e.harness import eventually, free_port


def test_the_file_names_the_sandboxes_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment = services()["bot"]["environment"]
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.enforced
    assert hindrance(settings) is None
    assert settings.tenant_database is not None
    assert settings.tenant_redis is not None
    assert (settings.tenant_database.where, settings.tenant_database.database) == ("postgres:5432", "tenants")
    assert settings.tenant_redis.where == "tenant-valkey:6379"
    assert settings.tenant_nats is not None
    assert settings.tenant_nats.where == "tenant-nats:4222"
    assert settings.sandbox_worker_nats_url == "nats://127.0.0.1:4223"
    assert settings.sandbox_worker_database_url == "postgresql://127.0.0.1:5432/tenants"
    assert settings.sandbox_worker_redis_url == "redis://127.0.0.1:6380/0"


async def test_postgres_script_makes_what_isolation_needs(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", tmp_path / "log", fast=True)
    await server.start()
    try:
        admin = await asyncpg.connect(server.admin_url)
        # As the image leaves it.
        await admin.execute("DROP DATABASE tenants")
        await admin.execute("DROP DATABASE sandbox")
        await admin.execute("DROP OWNED BY sandbox; DROP ROLE sandbox")
        await admin.execute("CREATE DATABASE sandbox")
        await admin.execute("GRANT CONNECT, TEMPORARY ON DATABASE postgres, template1 TO PUBLIC")
        password = server.admin_url.split("@")[0].rsplit(":", 1)[1]
        process = await asyncio.create_subprocess_exec(
            str(DEPLOY / "postgres" / "init.sh"),
            env={
                "PATH": f"{postgres_programs()}{os.pathsep}{os.environ['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(server.port),
                "PGPASSWORD": password,
                "POSTGRES_PASSWORD": "the-bots",
            },
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert (process.returncode, said) == (0, b"")
        row = await admin.fetchrow("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = 'sandbox'")
        assert row is not None
        assert tuple(row) == (False, True)
        assert await admin.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'") is None
        await admin.close()
        tenants = await asyncpg.connect(f"postgresql://sandbox:the-bots@127.0.0.1:{server.port}/tenants")
        found = await tenants.fetchrow(ABILITIES)
        assert found is not None
        await tenants.close()
        assert lacking_abilities(found) == []
    finally:
        await server.kill()


async def test_valkey_script_lets_only_the_bot_in(tmp_path: Path) -> None:
    entry = tmp_path / "docker-entrypoint.sh"
    port = free_port()
    entry.write_text(f'#!/bin/sh\nshift\nexec {valkey_program()} --bind 127.0.0.1 --port {port} "$@"\n')
    entry.chmod(0o755)
    process = await asyncio.create_subprocess_exec(
        str(DEPLOY / "valkey" / "start.sh"),
        *("--maxmemory", "64mb"),
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(tmp_path),
            "REDIS_PASSWORD": "k3ys",
        },
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:

        async def answers() -> bool:
            try:
                async with Redis.from_url(f"redis://bot:k3ys@127.0.0.1:{port}/0") as bot:
                    return bool(await bot.ping())
            except rd.ConnectionError:
                return False

        await eventually(answers)
        async with Redis.from_url(f"redis://127.0.0.1:{port}/0") as nobody:
            with pytest.raises(rd.AuthenticationError):
                await nobody.ping()
        assert b"k3ys" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert (tmp_path / "users.acl").stat().st_mode & 0o777 == 0o600
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def test_the_configuration_of_nats_is_written_for_nobody_else(tmp_path: Path) -> None:
    (shell, option, script) = services()["tenant-nats-configuration"]["command"]
    program = tmp_path / "sandboxctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sandbox_bot "$@"\n')
    program.chmod(0o755)
    subprocess.run(
        # Compose reads two of these signs as one.
        [shell, option, script.replace("$$", "$").replace("/etc/tenant-nats", str(tmp_path))],
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.defpath}",
            "PYTHONPATH": str(ROOT),
            "SANDBOX_CREDENTIALS_KEY": "0" * 64,
        },
        check=True,
    )
    written = tmp_path / "nats.conf"
    assert written.stat().st_mode & 0o777 == 0o600
    (user,) = json.loads(written.read_text())["accounts"]["ROUTER"]["users"]
    known = TenantKeys(CredentialsKey(SecretStr("0" * 64))).password("bot")
    assert user["password"] == known
