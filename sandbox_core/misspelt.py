"""Finds variables that look like a misspelt setting; such a setting silently keeps its default.

Most variables of a process belong to other programs, so only a name near one of ours is reported.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import get_args

from dotenv import dotenv_values
from pydantic import SecretStr

from .settings import Settings

_OURS = ("SANDBOX_", "DISCORD_")
"""A name with such a start is probably meant for this project."""
_SHARED = ("NATS_", "REDIS_", "DATABASE_", "EVENTS_", "ROUTER_", "OPS_", "LOG_", "METRICS_")
"""A name with such a start may be meant for another program: only a small mistake is reported."""
_SLIP = 2
"""The most extra, missing, wrong or swapped letters of a small mistake."""
_LONG = 11
"""Names of at least this length are compared with any start, such as DATABSE_URL."""
_ALIKE = 0.84

NOT_SETTINGS = frozenset(
    {
        # Variables of a sandbox's worker, which the command line reads, too.
        "SANDBOX_ID",
        "SANDBOX_NAME",
        "SANDBOX_SCHEMA",
        "SANDBOX_REDIS_PREFIX",
        "SANDBOX_NATS_PREFIX",
        "SANDBOX_GUILD_IDS",
        "SANDBOX_OWNER",
        "DISCORD_GATEWAY_URL",
        # The command line `nats` and similar tools.
        "NATS_CA",
        "NATS_CERT",
        "NATS_COLOR",
        "NATS_CONFIG",
        "NATS_CONTEXT",
        "NATS_CREDS",
        "NATS_KEY",
        "NATS_NKEY",
        "NATS_PASSWORD",
        "NATS_PORT",
        "NATS_SERVER",
        "NATS_SOCKS_PROXY",
        "NATS_STREAM",
        "NATS_TIMEOUT",
        "NATS_TOKEN",
        "NATS_USER",
        # docker compose and its images.
        "REDIS_PORT",
        "REDIS_HOST",
        # Applications in general, and names of Discord that are no setting here.
        "DATABASE_HOST",
        "DATABASE_NAME",
        "DATABASE_PASSWORD",
        "DATABASE_PORT",
        "DATABASE_USER",
        "DISCORD_APPLICATION_ID",
        "DISCORD_CLIENT_ID",
        "DISCORD_CLIENT_SECRET",
        "DISCORD_PUBLIC_KEY",
        "DISCORD_WEBHOOK_URL",
        "LOG_FILE",
        "LOG_PATH",
    }
)


@dataclass(frozen=True, slots=True)
class Misspelt:
    """A variable that nothing reads, and the setting that is probably meant."""

    name: str
    nearest: str
    place: str
    """`the environment` or `.env`."""

    def __str__(self) -> str:
        return f"{self.name} in {self.place} is no setting: {self.nearest} is probably meant."


def misspelt_settings(environ: Mapping[str, str] | None = None, file: Path | None = None) -> list[Misspelt]:
    """Return the misspelt settings in the environment and in `.env`, each name once, sorted."""
    around = os.environ if environ is None else environ
    written = _names_in(Path(".env") if file is None else file)
    known = _known()
    # Names of settings may also be in lower case.
    given = {name.upper() for name in (*around, *written)}
    found: dict[str, Misspelt] = {}
    for place, names in (("the environment", tuple(around)), (".env", written)):
        for name in names:
            nearest = _nearest(name.upper(), known, given)
            if nearest:
                found.setdefault(name.upper(), Misspelt(name, nearest, place))
    return [found[name] for name in sorted(found)]


def _names_in(file: Path) -> tuple[str, ...]:
    try:
        return tuple(dotenv_values(file, encoding="utf-8", interpolate=False)) if file.is_file() else ()
    except (OSError, UnicodeDecodeError):
        # The code that reads the settings reports this.
        return ()


def _known() -> frozenset[str]:
    return frozenset(_settings())


def _settings() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield name.upper()
        if field.annotation is SecretStr or SecretStr in get_args(field.annotation):
            yield f"{name.upper()}_FILE"


def _nearest(name: str, known: Collection[str], given: Collection[str]) -> str:
    """Return the setting that `name` misspells, or ""."""
    if name in known or name in NOT_SETTINGS:
        return ""
    ours = name.startswith(_OURS)
    if not ours and not name.startswith(_SHARED) and len(name) < _LONG:
        return ""
    # Settings without a value come first: a setting with a value is probably not misspelt.
    ordered = sorted(known, key=lambda each: (each in given, each))
    # All its words, in another order: NATS_STREAM_EVENTS.
    words = sorted(name.split("_"))
    for each in ordered:
        if sorted(each.split("_")) == words:
            return each
    slips = [each for each in ordered if abs(len(each) - len(name)) <= _SLIP and _slips(name, each) <= _SLIP]
    if slips:
        return min(slips, key=lambda each: _slips(name, each))
    if not ours:
        return ""
    alike = {each: _likeness(name, each) for each in ordered if each not in given}
    best = max(alike, key=lambda each: alike[each], default="")
    return best if best and alike[best] >= _ALIKE else ""


def _likeness(name: str, setting: str) -> float:
    if setting.startswith(f"{name}_") and name.count("_") > 1:
        # Its end was left out, as in SANDBOX_MAX_TTL.
        return 1.0
    return SequenceMatcher(None, name, setting, autojunk=False).ratio()


def _slips(name: str, setting: str) -> int:
    """Return the number of missing, extra, wrong or swapped letters (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(setting) + 1))
    for i, letter in enumerate(name, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(setting, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == setting[j - 2] and name[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
