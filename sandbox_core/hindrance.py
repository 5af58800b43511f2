"""What the settings lack for servers that keep sandboxes apart.

The bot starts without it, and production's events go on; only a new sandbox is refused.
"""

from __future__ import annotations

import structlog

from .errors import IsolationImpossible
from .settings import Settings
from .words import listed

_log = structlog.get_logger("sandbox.core")

_MEND = (
    "Give sandboxes servers of their own, as docs/servers.md describes; or set SANDBOX_ISOLATION=convention, "
    "if each worker may have the data of all sandboxes."
)


def hindrance(settings: Settings) -> IsolationImpossible | None:
    """Return why no new sandbox can be made by these settings; None if one can be."""
    if not settings.enforced:
        return None
    needed = (
        ("PostgreSQL", settings.database.where, "SANDBOX_DATABASE_URL", settings.sandbox_database_url),
        ("Redis", settings.redis.where, "SANDBOX_REDIS_URL", settings.sandbox_redis_url),
        ("NATS", settings.nats.where, "SANDBOX_NATS_URL", settings.sandbox_nats_url),
        ("PostgreSQL", settings.database.where, "SANDBOX_CREDENTIALS_KEY", settings.sandbox_credentials_key),
    )
    lacking = [each for each in needed if each[-1] is None]
    if not lacking:
        return None
    store, where, *_ = lacking[0]
    verb = "is" if len(lacking) == 1 else "are"
    names = listed([name for *_, name, _ in lacking])
    return IsolationImpossible(store, where, f"{names} {verb} not set", _MEND)


def log_hindrance(settings: Settings) -> None:
    """Log once, at the start of a process that publishes, that there are no new sandboxes."""
    if (lacking := hindrance(settings)) is not None:
        _log.warning("no_new_sandboxes", code=lacking.code, reason=lacking.problem, mend=lacking.mend)
