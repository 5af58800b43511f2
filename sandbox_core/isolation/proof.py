"""Proves that sandboxes are kept apart: makes two, attacks one with the other's login, and removes both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import nats.errors
import structlog
from redis import exceptions as rd
from structlog.contextvars import bound_contextvars

from sandbox_core.addresses import NatsAddress, PostgresAddress, RedisAddress
from sandbox_core.bootstrap import Core
from sandbox_core.dependencies import SANDBOX_NATS, Question, sandbox_nats_question
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.manager import FaultPoint, no_fault
from sandbox_core.models import Actor
from sandbox_core.nats.errors import unavailable as nats_unavailable
from sandbox_core.postgres.errors import DRIVER_ERRORS
from sandbox_core.postgres.errors import unavailable as postgres_unavailable
from sandbox_core.redis.errors import unavailable as redis_unavailable
from sandbox_core.tasks import within

from .attacks import Tried, Verdict
from .on_context import attack_with_contexts
from .on_nats import attack_nats
from .on_postgres import attack_postgres
from .on_redis import attack_redis
from .reach import from_here
from .report import Report, Section
from .stage import Held, two_sandboxes

_log = structlog.get_logger("sandbox.isolation")

POSTGRES, REDIS = "PostgreSQL (sandboxes)", "Redis (sandboxes)"
CONTEXT = "SandboxContext"
_OPERATION = "isolation trial"

_ANSWER_WITHIN = 5.0
_ATTACKS_WITHIN = 40.0
"""The limit in seconds for all attacks: the sandboxes must not expire meanwhile."""

Attacks = Callable[[list[Tried]], Coroutine[Any, Any, None]]
"""Tries everything on one server, and adds what it came to, so that it is known when the server goes away."""


@dataclass(frozen=True, slots=True)
class _Server:
    title: str
    where: str
    question: Question


async def prove(core: Core, actor: Actor, *, faults: FaultPoint = no_fault) -> Report:
    """Make two sandboxes, try every attack, remove them, and return what the attacks came to.

    The core must let sandboxes' workers in at NATS, or another process must. Raises what
    `SandboxManager.create` raises, such as `IsolationImpossible`. `faults` is for tests.
    """
    settings = core.settings
    if not settings.enforced:
        return Report(enforced=False)
    began = time.perf_counter()
    servers = _servers(core)
    troubles = await asyncio.gather(*(_trouble(each) for each in servers))
    if any(troubles):
        return Report(
            True,
            tuple(
                Section(each.title, each.where, away=trouble)
                for each, trouble in zip(servers, troubles, strict=True)
            ),
        )
    left: list[str] = []
    # The logs then say why logins and subjects are refused.
    with bound_contextvars(operation=_OPERATION):
        sections = await _with_two(core, actor, servers, left, faults)
    report = Report(True, sections, tuple(left), time.perf_counter() - began)
    _tell(report)
    return report


async def _with_two(
    core: Core, actor: Actor, servers: tuple[_Server, ...], left: list[str], faults: FaultPoint
) -> tuple[Section, ...]:
    async with two_sandboxes(core, actor, left) as (attacker, neighbour):
        await faults("isolation:made")
        sections = await _attacked(core, servers, attacker, neighbour)
        await faults("isolation:attacked")
    return sections


def _servers(core: Core) -> tuple[_Server, _Server, _Server]:
    database, keys = core.tenants.database, core.tenants.keys
    address = core.settings.tenant_nats
    # The settings' check: enforced means that there is all of it.
    assert database is not None and keys is not None and address is not None  # noqa: S101, PT018
    return (
        _Server(POSTGRES, database.where, database.question),
        _Server(REDIS, keys.where, keys.question),
        _Server(SANDBOX_NATS, address.where, sandbox_nats_question(core.sandbox_js, core.sandbox_nats)),
    )


async def _trouble(server: _Server) -> str:
    """Return why the server can't be asked, or ""."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            await server.question()
    except DependencyUnavailable as error:
        return error.problem
    except TimeoutError:
        return f"no answer within {_ANSWER_WITHIN:g} s"
    return ""


async def _attacked(
    core: Core, servers: tuple[_Server, ...], attacker: Held, neighbour: Held
) -> tuple[Section, ...]:
    mine, theirs = await asyncio.gather(
        *(from_here(core.settings, held.logins) for held in (attacker, neighbour))
    )
    postgres, redis, on_nats = servers
    settings, own, other = core.settings, attacker.sandbox, neighbour.sandbox
    assert core.tenants.nats is not None and settings.tenant_database is not None  # noqa: S101, PT018
    assert settings.tenant_redis is not None  # noqa: S101
    return tuple(
        await asyncio.gather(
            _section(
                postgres,
                partial(
                    attack_postgres,
                    PostgresAddress.parse(mine["DATABASE_URL"]),
                    PostgresAddress.parse(theirs["DATABASE_URL"]),
                    bot=settings.tenant_database.who,
                    control=settings.database.database or settings.database.who,
                ),
            ),
            _section(
                redis,
                partial(
                    attack_redis,
                    RedisAddress.parse(mine["REDIS_URL"]),
                    RedisAddress.parse(theirs["REDIS_URL"]),
                    own_id=own.id,
                    other_id=other.id,
                    bot=settings.tenant_redis.who,
                ),
            ),
            _section(
                on_nats,
                partial(
                    attack_nats,
                    core.tenants.nats,
                    NatsAddress.parse(mine["NATS_URL"]),
                    NatsAddress.parse(theirs["NATS_URL"]),
                    own_id=own.id,
                    other_id=other.id,
                    names=settings.stream_names,
                ),
            ),
            _section(
                _Server(CONTEXT, "", on_nats.question),
                partial(attack_with_contexts, {**attacker.names, **mine}, neighbour.names),
            ),
        )
    )


async def _section(server: _Server, attacks: Attacks) -> Section:
    tried: list[Tried] = []
    away = ""
    try:
        await within(_ATTACKS_WITHIN, attacks(tried))
    except TimeoutError:
        away = f"not done within {_ATTACKS_WITHIN:g} s"
    except DependencyUnavailable as error:
        away = error.named_reason if server.title == CONTEXT else error.reason
    except (*DRIVER_ERRORS, rd.RedisError, nats.errors.Error) as error:
        known = postgres_unavailable(error) or redis_unavailable(error) or nats_unavailable(error)
        if known is None:
            raise
        away = known.problem
    return Section(server.title, server.where, tuple(tried), away)


def _tell(report: Report) -> None:
    _log.info(
        "isolation_tried",
        denied=report.denied,
        possible=report.count(Verdict.POSSIBLE),
        failed=[f"{section.title}: {each.what}" for section, each in report.failed],
        away=[f"{section.title} at {section.where}: {section.away}" for section in report.away],
        left=list(report.left),
    )
