"""Variables that look like a setting whose name is misspelt: such a setting silently keeps its default.

Most variables around a process are somebody else's, so a name is only reported when it is near one of ours.
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
"""Whatever begins so was probably meant for this project."""
_SHARED = ("NATS_", "REDIS_", "DATABASE_", "EVENTS_", "ROUTER_", "OPS_", "LOG_", "METRICS_")
"""What begins so may be meant for another program: only a slip of the pen is reported."""
_SLIP = 2
"""So many letters too many, missing, wrong or swapped are a slip."""
_LONG = 11
"""Names of at least so many letters are compared whatever they begin with: DATABSE_URL."""
_ALIKE = 0.84

NOT_SETTINGS = frozenset(
    {
        # What a sandbox hands to its worker, and the command line takes.
        "SANDBOX_ID",
        "SANDBOX_NAME",
        "SANDBOX_SCHEMA",
        "SANDBOX_REDIS_PREFIX",
        "SANDBOX_NATS_PREFIX",
        "SANDBOX_GUILD_IDS",
        "SANDBOX_OWNER",
        "DISCORD_GATEWAY_URL",
        # The command line `nats` and its relatives.
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
        # Applications in general, and Discord's own names for what is no setting here.
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
    """A variable that nothing reads, and the setting that was probably meant."""

    name: str
    nearest: str
    place: str
    """`the environment` or `.env`."""

    def __str__(self) -> str:
        return f"{self.name} in {self.place} is no setting: {self.nearest} is probably meant."


def misspelt_settings(environ: Mapping[str, str] | None = None, file: Path | None = None) -> list[Misspelt]:
    """Those of the environment and of `.env`, each name once, in the order of their names."""
    around = os.environ if environ is None else environ
    written = _names_in(Path(".env") if file is None else file)
    known = _known()
    # Names of settings may be written in small letters too.
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
        # Whoever reads the settings themselves is told.
        return ()


def _known() -> frozenset[str]:
    return frozenset(_settings())


def _settings() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield name.upper()
        if field.annotation is SecretStr or SecretStr in get_args(field.annotation):
            yield f"{name.upper()}_FILE"


def _nearest(name: str, known: Collection[str], given: Collection[str]) -> str:
    """The setting that `name` is a misspelling of, or ""."""
    if name in known or name in NOT_SETTINGS:
        return ""
    ours = name.startswith(_OURS)
    if not ours and not name.startswith(_SHARED) and len(name) < _LONG:
        return ""
    # Those that are not given first: a setting that is given was hardly misspelt as well.
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
    """How many letters were left out, added, changed or swapped with the next one (optimal alignment)."""
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
