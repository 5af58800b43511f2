"""The configuration is what nats-server takes, and has nothing in it that is not needed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from sandbox_bot.cli import app
from sandbox_bot.embedded import TenantNatsServer
from sandbox_bot.embedded._programs import nats_program
from sandbox_core.credentials import CredentialsKey
from sandbox_core.nats.tenant.configuration import ServerPlace, TenantLimits, tenant_configuration
from sandbox_core.nats.tenant.keys import ROUTE, TenantKeys

from .conftest import KEY, LIMITS, MIB

KEYS = TenantKeys(CredentialsKey(SecretStr(KEY)))
PLACE = ServerPlace("a", "127.0.0.1", 4222, PurePosixPath("/data"))


def test_what_is_printed_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SANDBOX_CREDENTIALS_KEY", KEY)
    words = ["tenant-nats", "--slots", "3", "--cluster", "c", "--route", "a:6222", "--replicas", "3"]
    printed = CliRunner().invoke(
        app, [*words, "--store", str(tmp_path / "store"), "--monitor", "127.0.0.1:8222"]
    )
    assert printed.exit_code == 0, printed.output
    file = tmp_path / "nats.conf"
    file.write_text(printed.output)
    subprocess.run([nats_program(), "-t", "-c", file], check=True, capture_output=True)
    assert KEY not in printed.output


def test_the_settings_limits_are_in_it_and_options_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "SANDBOX_CREDENTIALS_KEY": KEY,
        "SANDBOX_STREAM_MB": "48",
        "SANDBOX_STREAM_CONSUMERS": "7",
        "SANDBOX_NATS_CONNECTIONS": "3",
    }.items():
        monkeypatch.setenv(name, value)

    def slot(*words: str) -> tuple[int, int, int]:
        printed = CliRunner().invoke(app, ["tenant-nats", "--slots", "1", *words])
        assert printed.exit_code == 0, printed.output
        account = json.loads(printed.output)["accounts"]["S000"]
        jetstream = account["jetstream"]
        return jetstream["max_mem"], jetstream["max_consumers"], account["limits"]["max_connections"]

    assert slot() == (48 * MIB, 7, 3)
    assert slot("--memory", "64", "--connections", "5") == (64 * MIB, 7, 5)
    monkeypatch.setenv("SANDBOX_STREAM_MB", "8")
    refused = CliRunner().invoke(app, ["tenant-nats", "--slots", "1"])
    assert (refused.exit_code, "SANDBOX_STREAM_MB" in refused.output) == (2, True)


def test_without_the_key_nothing_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SANDBOX_CREDENTIALS_KEY", raising=False)
    refused = CliRunner().invoke(app, ["tenant-nats"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "SANDBOX_CREDENTIALS_KEY is not set" in refused.output


def test_every_user_has_another_password_and_the_same_after_a_restart() -> None:
    again = TenantKeys(CredentialsKey(SecretStr(KEY)))
    other = TenantKeys(CredentialsKey(SecretStr(KEY[::-1].replace("k", "l"))))
    users = ("bot", "auth", "sys", ROUTE)
    assert len({KEYS.password(user) for user in users}) == len(users)
    assert [KEYS.password(user) for user in users] == [again.password(user) for user in users]
    assert KEYS.issuer_public == again.issuer_public != other.issuer_public
    assert KEYS.issuer_public.startswith("A")


def test_limits_that_can_not_work_are_refused() -> None:
    for wrong in ({"slots": 0}, {"slots": 1001}, {"memory": MIB}):
        with pytest.raises(ValueError, match="is"):
            TenantLimits(**wrong)


def test_the_accounts_together_fit_and_see_only_their_own() -> None:
    made = tenant_configuration(KEYS, LIMITS, PLACE)
    slots = {name: account for name, account in made["accounts"].items() if name.startswith("S0")}
    assert len(slots) == LIMITS.slots
    assert (
        sum(each["jetstream"]["max_mem"] for each in slots.values()) < made["jetstream"]["max_memory_store"]
    )
    for account in slots.values():
        assert "imports" not in account
        assert all(export["accounts"] == ["ROUTER"] for export in account["exports"])
    imported = [each["service"]["account"] for each in made["accounts"]["ROUTER"]["imports"]]
    assert imported == [name for name in slots for _ in range(2)]


async def test_the_embedded_servers_configuration_is_private(server: TenantNatsServer) -> None:
    file = server.data_dir / "nats.conf"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["host"] == "127.0.0.1"
    assert KEY not in file.read_text()
