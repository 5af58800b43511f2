"""Variables that look like a misspelt setting, and those that are something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_core.misspelt import NOT_SETTINGS, misspelt_settings
from sandbox_core.settings import TAKES

NOWHERE = Path("/nonexistent/.env")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("DISCORD_TOKN", "DISCORD_TOKEN"),
        ("DISCORD_TOKN_FILE", "DISCORD_TOKEN_FILE"),
        ("DISCORD_BOT_TOKEN", "DISCORD_TOKEN"),
        ("DISCORD_OWNER_ID", "DISCORD_OWNER_IDS"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("NATS_REPLICA", "NATS_REPLICAS"),
        ("SANDBOX_MAX_TTL", "SANDBOX_MAX_TTL_HOURS"),
        ("SANDBOX_MAX_PEROWNER", "SANDBOX_MAX_PER_OWNER"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("OPS_POTR", "OPS_PORT"),
        ("NATS_STREAM_EVENTS", "NATS_EVENTS_STREAM"),
        ("log_levl", "LOG_LEVEL"),
    ],
)
def test_a_misspelt_name_has_a_nearest_one(name: str, nearest: str) -> None:
    (found,) = misspelt_settings({name: "x", "PATH": "/bin"}, NOWHERE)
    assert (found.name, found.nearest, found.place) == (name, nearest, "the environment")


def test_what_is_something_else_is_left_alone() -> None:
    others = {*NOT_SETTINGS, *TAKES, "DATABASE_URL_FILE", "DISCORD_TOKEN_FILE"}
    others |= {"POSTGRES_PASSWORD", "POSTGRES_PORT", "GRAFANA_PASSWORD", "GRAFANA_PORT", "PROMETHEUS_PORT"}
    others |= {
        "PATH",
        "HOME",
        "LOGNAME",
        "LOG_DIR",
        "NATS_JS_DOMAIN",
        "COMPOSE_FILE",
        "PGPASSWORD",
        "OPSWORKS",
    }
    assert misspelt_settings(dict.fromkeys(others, "x"), NOWHERE) == []


def test_a_likeness_is_no_misspelling_where_the_setting_is_given_too() -> None:
    assert misspelt_settings({"DISCORD_BOT_TOKEN": "x", "DISCORD_TOKEN": "y"}, NOWHERE) == []
    assert len(misspelt_settings({"DISCORD_TOKN": "x", "DISCORD_TOKEN": "y"}, NOWHERE)) == 1


def test_the_file_is_read_too_and_each_name_told_once(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("LOG_LEVL=DEBUG\nSOMETHING_ELSE=1\nDISCORD_TOKN=s3cret\n")
    found = misspelt_settings({"LOG_LEVL": "x"}, file)
    assert [(each.name, each.place) for each in found] == [
        ("DISCORD_TOKN", ".env"),
        ("LOG_LEVL", "the environment"),
    ]
    assert "s3cret" not in "".join(map(str, found))
