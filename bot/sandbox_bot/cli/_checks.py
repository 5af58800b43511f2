"""What `doctor` looks at, server by server. Nothing is changed by looking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from sandbox_core.bootstrap import Core
from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.namespaces import PartState
from sandbox_core.nats.errors import translating as nats_errors
from sandbox_core.nats.streams import StreamLimits, stream_configs
from sandbox_core.postgres import connected
from sandbox_core.postgres.pool import Connection
from sandbox_core.redis.errors import translating as redis_errors
from sandbox_core.settings import Settings

from ..migrate import migrations_dir
from ._discord import TokenRefusedError, discord_rest
from ._publishers import check_publishers

_WITHIN = 8.0
_POSTGRES_MINIMUM, _REDIS_MINIMUM, _NATS_MINIMUM = (15,), (7,), (2, 11)
_SKEW_LIMIT = 2.0

# Application flags, from Discord's developer documentation (resource "Application"): each intent has one
# flag for applications that were granted it and one for those in fewer than 100 servers.
_INTENT_FLAGS = {
    "presences": (1 << 12) | (1 << 13),
    "members": (1 << 14) | (1 << 15),
    "message_content": (1 << 18) | (1 << 19),
}


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    FAILED = "failed"
    """Something has to be mended."""
    AWAY = "away"
    """The server does not answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `mend` says what to do and is empty when nothing is."""

    area: str
    state: State
    detail: str
    mend: str = ""


class Findings:
    """Collects what is found about one area."""

    def __init__(self, area: str) -> None:
        self.area = area
        self.found: list[Finding] = []

    def ok(self, detail: str) -> None:
        """As it should be."""
        self.found.append(Finding(self.area, State.OK, detail))

    def note(self, detail: str, mend: str = "") -> None:
        """Worth knowing."""
        self.found.append(Finding(self.area, State.NOTE, detail, mend))

    def failed(self, detail: str, mend: str) -> None:
        """To be mended."""
        self.found.append(Finding(self.area, State.FAILED, detail, mend))

    def judge(self, right: bool, detail: str, mend: str) -> None:
        """`ok`, or `failed` with what to do."""
        if right:
            self.ok(detail)
        else:
            self.failed(detail, mend)

    def away(self, error: SandboxError, mend: str) -> None:
        """The server does not answer."""
        self.found.append(Finding(self.area, State.AWAY, explain(error).sentence, mend))


_MEND_AWAY = {
    "PostgreSQL": "Start it, and check DATABASE_URL.",
    "Redis": "Start it, and check REDIS_URL.",
    "NATS": "Start it with JetStream (-js), and check NATS_URL.",
}


async def check_servers(core: Core) -> list[Finding]:
    """Ask every server whether it answers, then look closer at those that do."""
    closer = {"PostgreSQL": _postgres, "Redis": _redis, "NATS": _nats}
    system = await core.health.check_system()
    answering = [part for part in system.parts if part.state is not PartState.UNHEALTHY]
    areas = await asyncio.gather(
        *(_bounded(part.store, closer[part.store](core), _MEND_AWAY[part.store]) for part in answering),
        _bounded("Discord", _discord(core.settings), "Check the network and DISCORD_API_URL."),
    )
    found = {area[0].area: area for area in areas}
    for part in system.parts:
        if part in answering:
            answers = Finding(part.store, State.OK, f"it answers, in {part.latency_ms:.0f} ms")
            found[part.store] = [answers, *found[part.store]]
        else:
            found[part.store] = [Finding(part.store, State.AWAY, part.detail, _MEND_AWAY[part.store])]
    return [finding for area in (*closer, "Discord") for finding in found[area]]


async def _bounded(area: str, check: Awaitable[Findings], mend: str) -> list[Finding]:
    try:
        async with asyncio.timeout(_WITHIN):
            return (await check).found
    except DependencyUnavailable as error:
        away = Findings(area)
        away.away(error, mend)
        return away.found
    except TimeoutError:
        away = Findings(area)
        away.away(DependencyUnavailable(area, f"no answer within {_WITHIN:g} seconds"), mend)
        return away.found


async def _postgres(core: Core) -> Findings:
    found = Findings("PostgreSQL")
    async with connected(core.pool) as connection:
        version = str(await connection.fetchval("SHOW server_version")).split()[0]
        found.judge(
            _version(version) >= _POSTGRES_MINIMUM,
            f"version {version}",
            "PostgreSQL 15 or newer is needed.",
        )
        await _migrations(connection, found)
        allowed = await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
        found.judge(
            bool(allowed),
            "the role may create schemas" if allowed else "the role may not create schemas",
            "As the database's owner: GRANT CREATE ON DATABASE … TO …;",
        )
        before = datetime.now(UTC)
        there: datetime = await connection.fetchval("SELECT clock_timestamp()")
        skew = (there - before - (datetime.now(UTC) - before) / 2).total_seconds()
        found.judge(
            abs(skew) <= _SKEW_LIMIT,
            f"its clock and this machine's are {abs(skew):.1f} s apart",
            "Let both machines take their time from NTP: expiry is judged by the bot's clock.",
        )
    await check_publishers(core.pool, found.failed)
    return found


async def _migrations(connection: Connection, found: Findings) -> None:
    known = {path.name.split("_", 1)[0] for path in migrations_dir().glob("*.sql")}
    recorded = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
    rows = await connection.fetch("SELECT version FROM schema_migrations") if recorded else []
    applied = {row["version"] for row in rows}
    missing = len(known - applied)
    found.judge(
        missing == 0,
        f"{missing} of {len(known)} migrations are not applied" if missing else "all migrations are applied",
        "sandboxctl migrate",
    )
    if newer := applied - known:
        found.failed(
            f"{len(newer)} migrations are newer than this program",
            "Install the release that brought them.",
        )


async def _redis(core: Core) -> Findings:
    found = Findings("Redis")
    with redis_errors():
        info = await core.redis.info("server")
        # What every sandbox needs; a user that may not do it is told so by the server.
        await core.redis.exists("sandbox:route:0")
        await core.redis.scan(0, match="sandbox:*", count=1)
    valkey = info.get("valkey_version")
    spoken = str(info.get("redis_version", "0"))
    shown = f"Valkey {valkey}, as Redis {spoken}" if valkey else f"version {spoken}"
    found.judge(_version(spoken) >= _REDIS_MINIMUM, shown, "Redis 7 or newer, or Valkey, is needed.")
    return found


async def _nats(core: Core) -> Findings:
    found = Findings("NATS")
    if not core.nats.connected:
        raise DependencyUnavailable("NATS", "no server accepts the connection")
    numbers = _version(str(core.nats.client.connected_server_version))
    shown = f"version {'.'.join(str(number) for number in numbers)}"
    found.judge(numbers >= _NATS_MINIMUM, shown, "nats-server 2.11 or newer is needed.")
    with nats_errors():
        await core.js.account_info()
        limits = StreamLimits(
            core.settings.nats_replicas, timedelta(hours=core.settings.events_max_age_hours)
        )
        for wanted in stream_configs(limits):
            await _stream(core, wanted, found)
    return found


async def _stream(core: Core, wanted: StreamConfig, found: Findings) -> None:
    name = str(wanted.name)
    try:
        info = await core.js.stream_info(name)
    except NotFoundError:
        found.note(f"the stream {name} does not exist yet", "The bot makes it as it starts: sandboxctl run")
        return
    differing = [
        what
        for what, is_so in {
            "subjects": info.config.subjects == wanted.subjects,
            "storage": info.config.storage == wanted.storage,
            "retention": info.config.retention == wanted.retention,
            "replicas": info.config.num_replicas == wanted.num_replicas,
        }.items()
        if not is_so
    ]
    found.judge(
        not differing,
        f"the stream {name} holds {info.state.messages} messages"
        if not differing
        else f"the stream {name} has other {', '.join(differing)} than the settings",
        f"Change it with `nats stream edit {name}`, or delete it and let the bot make it again.",
    )


async def _discord(settings: Settings) -> Findings:
    found = Findings("Discord")
    if settings.discord_token is None:
        found.note("DISCORD_TOKEN is not set", "`run` and `register-guild` need it.")
        return found
    async with discord_rest(settings) as discord:
        try:
            application = await discord.get("/applications/@me")
        except TokenRefusedError as error:
            found.failed("the token is refused", error.lines[0])
            return found
        found.ok(f"the token is {application['name']}'s")
        flags = int(application.get("flags") or 0)
        for intent in settings.discord_privileged_intents:
            granted = bool(flags & _INTENT_FLAGS[intent])
            found.judge(
                granted,
                f"the intent {intent} is on" if granted else f"the intent {intent} is not on",
                "Turn it on in the application's settings (Bot, Privileged Gateway Intents), or take it out "
                "of DISCORD_PRIVILEGED_INTENTS.",
            )
        if not settings.discord_dev_guild_ids:
            found.failed(
                "DISCORD_DEV_GUILD_IDS is not set", "Name the servers that get the /sandbox commands."
            )
        for guild_id in settings.discord_dev_guild_ids:
            guild = await discord.get(f"/guilds/{guild_id}")
            found.judge(
                guild is not None,
                f"the bot is {'' if guild is not None else 'not '}in the dev server {guild_id}",
                "Invite it there with the scopes bot and applications.commands.",
            )
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
