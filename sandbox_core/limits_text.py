"""What a sandbox uses of what it may, for Discord and the command line; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from .health import SandboxHealth
from .settings import Settings
from .stored import Level, StorageLimit, Stored, mebibytes

DISCORD, POSTGRES, REDIS = "Discord", "PostgreSQL", "Redis"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one sandbox, from the settings."""

    guilds: int
    statement_seconds: float
    storage: Mapping[str, StorageLimit]
    """By store."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those of these settings."""
        return cls(
            settings.sandbox_max_guilds,
            settings.sandbox_database_statement_seconds,
            {POSTGRES: settings.database_limit, REDIS: settings.redis_limit},
        )


@dataclass(frozen=True, slots=True)
class Use:
    """What a sandbox uses of one thing."""

    store: str
    what: str
    """`bytes`, `keys`, `connections`, `statement_seconds`, `messages`, `consumers` or `guilds`."""
    used: int | None
    """None where that is not known, or makes no sense."""
    limit: float
    measured_at: datetime | None = None
    """When it was measured, where that is not now."""


def uses(health: SandboxHealth, limits: Limits) -> list[Use]:
    """Return what the sandbox uses, and may use, of everything that is limited for it alone."""
    sandbox = health.sandbox
    found = [Use(DISCORD, "guilds", len(sandbox.guild_ids), limits.guilds)]
    for store, limit in limits.storage.items():
        stored = sandbox.stored(store)
        at = None if stored is None else stored.measured_at
        found.append(Use(store, "bytes", None if stored is None else stored.bytes, limit.bytes, at))
        if limit.items is not None:
            found.append(Use(store, "keys", None if stored is None else stored.items, limit.items, at))
    for part in health.parts:
        for name, most in part.facts.items():
            what = name.removesuffix("_limit")
            if what != name and isinstance(most, int):
                used = part.facts.get(what)
                found.append(Use(part.store, what, used if isinstance(used, int) else None, most))
    if sandbox.generation:
        found.append(Use(POSTGRES, "statement_seconds", None, limits.statement_seconds))
    return found


def lines(health: SandboxHealth, limits: Limits, now: datetime) -> list[tuple[str, str]]:
    """Return a line for each place with limits: its name, and what is used of them."""
    said: dict[str, list[str]] = {}
    for use in uses(health, limits):
        texts = said.setdefault(use.store, [])
        texts.insert(0 if use.what == "bytes" else len(texts), _said(use, now))
    for store, texts in said.items():
        stored = health.sandbox.stored(store)
        if stored is not None and (warning := _warning(stored, enforced=health.sandbox.generation > 0)):
            texts.append(warning)
    return [(store, " · ".join(texts)) for store, texts in said.items()]


_NOUNS = {"guilds": "servers", "messages": "events"}
_LONG = 120
_FULL = {
    POSTGRES: "full: new sessions are read-only unless they ask for more",
    REDIS: "full: its login may read and delete, and not write",
}


def _said(use: Use, now: datetime) -> str:
    if use.what == "statement_seconds":
        return f"{use.limit:g} s for a statement"
    if use.what == "bytes":
        used, limit = None if use.used is None else mebibytes(use.used), mebibytes(int(use.limit))
        noun = "MiB"
    else:
        used = None if use.used is None else f"{use.used:,}"
        limit, noun = f"{int(use.limit):,}", _NOUNS.get(use.what, use.what)
    if used is None:
        return f"{limit} {noun} at most" + (", not measured yet" if use.what == "bytes" else "")
    # Once for a store is enough.
    measured = use.measured_at if use.what == "bytes" else None
    return f"{used} of {limit} {noun}" + ("" if measured is None else f", measured {_age(measured, now)} ago")


def _age(at: datetime, now: datetime) -> str:
    seconds = max(0, round((now - at).total_seconds()))
    return f"{seconds} s" if seconds < _LONG else f"{seconds // 60} min"


def _warning(stored: Stored, *, enforced: bool) -> str:
    match stored.level:
        case Level.FULL:
            return _FULL.get(stored.store, "full") if enforced else "full"
        case Level.NEAR:
            return "nearly full"
        case _:
            return ""
