from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandbox_core.settings import (
    Settings,
    SettingsError,
    load_database_settings,
    load_settings,
    require_discord,
)
from sandbox_core.subjects import StreamNames

SERVERS = {
    "DATABASE_URL": "postgresql://bot:very-secret@127.0.0.1:5432/bot",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "NATS_URL": "nats://127.0.0.1:4222, tls://nats.example:4222",
}
GUILD = "613425648685547541"
_ID = "0a1b2c3d-0000-4000-8000-000000000000"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Only the servers' addresses are set, and no `.env` is near."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environ")
def test_defaults() -> None:
    settings = load_settings()
    assert settings.default_ttl == timedelta(hours=24)
    assert settings.max_ttl == timedelta(hours=168)
    assert (settings.sandbox_max_per_owner, settings.nats_replicas, settings.ops_host) == (5, 1, "127.0.0.1")
    assert settings.discord_token is None
    assert settings.discord_api_url is None
    assert settings.discord_dev_guild_ids == ()
    assert settings.discord_shard_ids is None
    assert settings.stream_names == StreamNames("EVENTS", "events", "SANDBOX")
    assert settings.sandbox_control_schema == "public"


def test_values_are_read(environ: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DISCORD_TOKEN": "token-secret",
        "DISCORD_API_URL": "http://127.0.0.1:8080/api/v10/",
        "DISCORD_DEV_GUILD_IDS": f"{GUILD}, 613425648685547542,",
        "DISCORD_SHARD_COUNT": "4",
        "DISCORD_SHARD_IDS": "0,3",
        "SANDBOX_DEFAULT_TTL_HOURS": "0.5",
        "LOG_LEVEL": "DEBUG",
        "NATS_EVENTS_STREAM": "PROD_EVENTS",
        "NATS_EVENTS_PREFIX": "acme.discord",
        "SANDBOX_CONTROL_SCHEMA": "acme",
        "REDIS_URL": "rediss://:pw@redis.example:6380/1",
    }.items():
        environ.setenv(name, value)
    settings = load_settings(sandbox_max_per_owner=9)
    assert settings.discord_api_url == "http://127.0.0.1:8080/api/v10"
    assert settings.discord_dev_guild_ids == (GUILD, "613425648685547542")
    assert settings.discord_shard_ids == (0, 3)
    assert settings.default_ttl == timedelta(minutes=30)
    assert settings.sandbox_max_per_owner == 9
    assert settings.stream_names == StreamNames("PROD_EVENTS", "acme.discord", "SANDBOX")
    assert settings.sandbox_control_schema == "acme"
    assert require_discord(settings) == "token-secret"
    for secret in ("token-secret", "very-secret", "pw@"):
        assert secret not in repr(settings)


def test_a_file_is_read_and_the_environment_wins(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_FORMAT=json\nLOG_LEVEL=ERROR\nSOMETHING_ELSE=1\n")
    environ.setenv("LOG_LEVEL", "WARNING")
    settings = load_settings()
    assert (settings.log_format, settings.log_level) == ("json", "WARNING")


def test_a_file_that_is_no_text_is_named(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"DISCORD_TOKEN=\xff\xfe")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert refused.value.problems == [".env can't be read: it is not UTF-8 text."]


def test_a_comma_may_be_part_of_a_password(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("DATABASE_URL", "postgresql://bot:a,b@127.0.0.1/bot")
    assert load_settings().database_url.get_secret_value().endswith("a,b@127.0.0.1/bot")


def test_an_empty_value_is_no_value(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("DISCORD_API_URL", "")
    environ.setenv("DISCORD_TOKEN", "")
    assert load_settings().discord_api_url is None
    assert load_settings(discord_api_url="").discord_api_url is None
    assert load_settings().discord_token is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DISCORD_API_URL", "ftp://discord.example/api"),
        ("DISCORD_API_URL", "https://discord.example/"),
        ("DISCORD_API_URL", "/api"),
        ("DISCORD_API_URL", "http://127.0.0.1:port/api"),
        ("DISCORD_DEV_GUILD_IDS", "my-server"),
        ("DISCORD_OWNER_IDS", "12"),
        ("DISCORD_PROTECTED_GUILD_IDS", f"{GUILD},*"),
        ("DISCORD_SHARD_COUNT", "0"),
        ("DISCORD_SHARD_IDS", "a"),
        ("DISCORD_SHARD_IDS", "0"),  # without a count
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "postgresql:///local"),
        ("DATABASE_URL", "postgresql://h:very-secret-port/x"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("NATS_URL", "nats://127.0.0.1:4222,http://x"),
        ("NATS_REPLICAS", "2"),
        ("NATS_EVENTS_STREAM", "prod.events"),
        ("NATS_EVENTS_PREFIX", "sandbox.prod"),
        ("NATS_EVENTS_PREFIX", "$JS.events"),
        ("NATS_EVENTS_PREFIX", "events.*"),
        ("NATS_SANDBOX_STREAM", "a b"),
        ("NATS_SANDBOX_STREAM", "EVENTS"),
        ("SANDBOX_CONTROL_SCHEMA", "pg_mine"),
        ("SANDBOX_CONTROL_SCHEMA", "sandbox_0a1b2c3d"),
        ("SANDBOX_CONTROL_SCHEMA", "Acme"),
        ("OPS_PORT", "70000"),
        ("SANDBOX_DEFAULT_TTL_HOURS", "169"),
        ("SANDBOX_DEFAULT_TTL_HOURS", "0"),
        ("SANDBOX_MAX_TTL_HOURS", "-1"),
        ("SANDBOX_MAX_TTL_HOURS", "inf"),
        ("SANDBOX_MAX_TTL_HOURS", "nan"),
        ("SANDBOX_MAX_TTL_HOURS", "1e12"),
        ("SANDBOX_MAX_PER_OWNER", "0"),
        ("SANDBOX_SHIELD_HOST", "perhaps"),
        ("SANDBOX_CLEANUP_INTERVAL_MINUTES", "soon"),
        ("SANDBOX_ROUTE_CACHE_TTL_MS", "1"),
        ("EVENTS_MAX_AGE_HOURS", "1e-6"),
        ("EVENTS_MAX_AGE_HOURS", "inf"),
        ("SANDBOX_EXPIRY_NOTICE_MINUTES", "60,inf"),
        ("ROUTER_MAX_PENDING", "1"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_variable(
    environ: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environ.setenv(name, value)
    with pytest.raises(SettingsError) as failed:
        load_settings()
    (problem,) = failed.value.problems
    assert problem.startswith(f"{name} can't be used: it takes ")
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"DATABASE_URL": "postgresql://sandbox_0a1b2c3d:x@h/tenants"},
            "DATABASE_URL has the login of a sandbox",
        ),
        ({"REDIS_URL": f"redis://sandbox-{_ID}:x@h/0"}, "REDIS_URL has the login of a sandbox"),
        (
            {"NATS_URL": f"nats://sandbox-{_ID}:x@h", "REDIS_URL": f"redis://sandbox-{_ID}:x@h/0"},
            "REDIS_URL and NATS_URL have the login of a sandbox",
        ),
    ],
)
def test_a_sandboxs_login_is_not_taken_for_the_bots(
    environ: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """As in a shell after `eval "$(sandboxctl connect …)"`."""
    for name, value in variables.items():
        environ.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    (problem,) = refused.value.problems
    assert problem.startswith(said)
    assert problem.endswith(
        "Run this in another shell, or unset " + ("it." if len(variables) == 1 else "them.")
    )
    if "DATABASE_URL" in variables:
        with pytest.raises(SettingsError, match="the login of a sandbox"):
            load_database_settings()


def test_shards_lie_below_their_count(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("DISCORD_SHARD_COUNT", "2")
    environ.setenv("DISCORD_SHARD_IDS", "0,2")
    with pytest.raises(SettingsError) as failed:
        load_settings()
    assert failed.value.problems[0].startswith("DISCORD_SHARD_IDS ")


def test_all_problems_come_at_once(environ: pytest.MonkeyPatch) -> None:
    environ.delenv("REDIS_URL")
    environ.setenv("OPS_PORT", "x")
    environ.setenv("NATS_URL", "x")
    with pytest.raises(SettingsError) as failed:
        load_settings()
    starts = sorted(problem.split(":")[0] for problem in failed.value.problems)
    assert starts == ["NATS_URL can't be used", "OPS_PORT can't be used", "REDIS_URL is not set"]
    assert str(failed.value).count("\n") == 2


@pytest.mark.usefixtures("environ")
def test_what_discord_needs_is_asked_for_apart() -> None:
    with pytest.raises(SettingsError) as failed:
        require_discord(load_settings())
    assert [problem.split(":")[0] for problem in failed.value.problems] == [
        "DISCORD_TOKEN is not set",
        "DISCORD_DEV_GUILD_IDS is not set",
    ]
    with pytest.raises(SettingsError):
        require_discord(load_settings(discord_token="x"))


def test_a_secret_may_stand_in_a_file(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token, url = tmp_path / "token", tmp_path / "url"
    token.write_text("from a file\n")
    url.write_text(SERVERS["DATABASE_URL"])
    environ.setenv("DISCORD_TOKEN_FILE", str(token))
    environ.setenv("DATABASE_URL_FILE", str(url))
    environ.setenv("DATABASE_URL", "")
    # Only secrets: any other variable with this ending is no setting of ours.
    environ.setenv("OPS_PORT_FILE", str(token))
    settings = load_settings()
    assert settings.discord_token is not None
    assert settings.discord_token.get_secret_value() == "from a file"
    assert settings.database_url.get_secret_value() == SERVERS["DATABASE_URL"]
    overridden = load_settings(database_url=SERVERS["DATABASE_URL"], discord_token="given by the caller")
    assert overridden.discord_token == SecretStr("given by the caller")


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_secret_that_is_given_twice_is_refused(
    environ: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    (tmp_path / "url").write_text("nats://from-a-file:4222")
    given = {"NATS_URL_FILE": str(tmp_path / "url"), "DISCORD_TOKEN_FILE": str(tmp_path / "missing")}
    if where == ".env":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    else:
        for name, value in given.items():
            environ.setenv(name, value)
    with pytest.raises(SettingsError) as problem:
        load_settings()
    assert problem.value.problems == [
        "DISCORD_TOKEN_FILE names a file that can't be read: No such file or directory.",
        "NATS_URL and NATS_URL_FILE are both set: leave one of them out, or empty.",
    ]
    assert load_settings(nats_url=SERVERS["NATS_URL"], discord_token="x").discord_token == SecretStr("x")
    environ.setenv("NATS_URL", "")
    assert load_settings(discord_token="x").nats_url == SecretStr("nats://from-a-file:4222")


def test_a_secret_file_that_cannot_be_read_is_a_sentence(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ.setenv("DISCORD_TOKEN_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError) as problem:
        load_settings()
    assert problem.value.problems == [
        "DISCORD_TOKEN_FILE names a file that can't be read: No such file or directory."
    ]
