"""Checks all servers at the same time; a failing server does not stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime

import structlog

from sandbox_core.addresses import discord_where
from sandbox_core.bootstrap import Core
from sandbox_core.dependencies import SANDBOX_NATS, sandbox_nats_question
from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyFaulty, DependencyUnavailable, LoginRefused, SandboxError
from sandbox_core.postgres.errors import OVERDUE
from sandbox_core.settings import Settings

from .discord import look_at_discord
from .findings import Finding, Look
from .nats import look_at_nats
from .nats_streams import Server
from .places import Places
from .postgres import look_at_postgres
from .redis import look_at_redis
from .templates import look_at_templates
from .tenants import POSTGRES, REDIS, look_at_isolation, look_at_tenants

_log = structlog.get_logger("sandbox.doctor")

_WITHIN = 15.0
_MEND = {
    "PostgreSQL": "Mend this at the server; its log says more.",
    "Redis": "Mend this at the server; its log and INFO say more.",
    "NATS": "Mend this at the server; its log says more.",
    SANDBOX_NATS: "Mend this at the server; its log says more.",
}
_HOLDERS = (
    "SELECT pid, usename, application_name, state, query FROM pg_stat_activity "
    "WHERE pid IN (SELECT pid FROM pg_locks WHERE granted AND relation::regclass::text LIKE '%sandbox%');"
)
"""Who holds locks on what the bot needs."""


async def check_servers(
    core: Core, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> list[Finding]:
    """Return all findings, in the order of the servers. The checks change nothing."""
    settings = core.settings
    places = Places.of(settings)
    postgres, redis = places.postgres, places.redis
    discord = discord_where(settings.discord_api_url)
    areas = [
        (look := Look("PostgreSQL", postgres.where), look_at_postgres(core, look, postgres, clock)),
        (look := Look("Redis", redis.where), look_at_redis(core, look, redis)),
        *(
            (look := Look(area, place.where), look_at_nats(server, look, place, clock))
            for (area, place), server in zip(
                (("NATS", places.nats), (SANDBOX_NATS, places.sandbox_nats)),
                Server.all_of(core),
                strict=False,
            )
        ),
        (look := Look("Discord", discord), look_at_discord(settings, look)),
        *_tenants(core, clock),
        *_templates(settings),
    ]
    isolation = look_at_isolation(settings)
    await asyncio.gather(*(_bounded(look, work) for look, work in areas))
    return [finding for look in (*(look for look, _ in areas), isolation) for finding in look.found]


def _tenants(
    core: Core, clock: Callable[[], datetime]
) -> Iterator[tuple[Look, Coroutine[object, object, None]]]:
    schemas, keys, events = core.namespaces
    if core.settings.tenant_nats is not None:
        look = Look(SANDBOX_NATS, core.settings.tenant_nats.where)
        question = sandbox_nats_question(core.sandbox_js, core.sandbox_nats)
        yield look, look_at_tenants(core, look, events, question, clock)
    for area, namespace, part in (
        (POSTGRES, schemas, core.tenants.database),
        (REDIS, keys, core.tenants.keys),
    ):
        if part is not None:
            look = Look(area, part.where)
            yield look, look_at_tenants(core, look, namespace, part.question, clock)


def _templates(settings: Settings) -> Iterator[tuple[Look, Coroutine[object, object, None]]]:
    if settings.sandbox_templates_dir is not None:
        look = Look("Templates", "")
        yield look, look_at_templates(settings, look)


async def _bounded(look: Look, work: Coroutine[object, object, None]) -> None:
    try:
        async with asyncio.timeout(_WITHIN):
            await work
    except LoginRefused as error:
        look.away(
            f"it refused the {error.refused} as {error.user}: {error.problem}", f"Check {error.setting}."
        )
    except DependencyFaulty as error:
        look.failed(
            error.reason, _MEND[look.area.split(" (")[0]], (_HOLDERS,) if error.problem == OVERDUE else ()
        )
    except DependencyUnavailable as error:
        look.away(
            error.reason if look.area.startswith(error.dependency) else explain(error).sentence, _start(look)
        )
    except SandboxError as error:
        look.failed(explain(error).sentence, "Fix this; then run doctor again.")
    except TimeoutError:
        look.away(f"no answer within {_WITHIN:g} seconds", _start(look))
    except Exception as error:
        # An unexpected answer of one server must not stop the other checks. The text of an unexpected error
        # may contain secrets.
        _log.debug("doctor_not_understood", dependency=look.area, exc_info=error)
        look.failed(
            f"its answer was not understood ({type(error).__name__})",
            "Check that the setting names the right server; LOG_LEVEL=DEBUG shows more.",
        )


def _start(look: Look) -> str:
    return {
        POSTGRES: "Start it, and check SANDBOX_DATABASE_URL.",
        REDIS: "Start it, and check SANDBOX_REDIS_URL.",
        "PostgreSQL": "Start it, and check DATABASE_URL.",
        "Redis": "Start it, and check REDIS_URL.",
        "NATS": "Start it with JetStream (-js), and check NATS_URL.",
        SANDBOX_NATS: "Start it with JetStream (-js), and check SANDBOX_NATS_URL.",
        "Discord": "Check the network and DISCORD_API_URL.",
    }[look.area]
