"""Runs the commands of the bot's owner. All rules about sandboxes are in the manager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import discord

from sandbox_cogs._answers import NO_ANSWER, discord_away, is_discords
from sandbox_cogs._core import AnyBot
from sandbox_cogs._late import perhaps_changed, perhaps_destroyed, what_is_away
from sandbox_core.bootstrap import Core
from sandbox_core.errors import CleanupFailed, CutOff, DependencyUnavailable, InvalidInput, SandboxError
from sandbox_core.limits_text import Limits
from sandbox_core.manager import utc_now
from sandbox_core.models import Actor, Sandbox
from sandbox_core.words import storable

from . import _render
from ._answer import Answer
from ._isolation import isolation_button

QUESTION_LIFE = timedelta(minutes=10)
"""After this time `destroy NAME yes` asks again: the question's list may be out of date."""

_BUDGET = 9.0
_DESTROY_BUDGET = 30.0
_PASS_BUDGET = 120.0

Arguments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A command with the words that follow it. `cause_id` is the id of the message."""

    actor: Actor
    arguments: Arguments
    cause_id: str

    def argument(self, index: int, field: str, example: str) -> str:
        """Return a word. Raises `InvalidInput` when it is missing."""
        if len(self.arguments) <= index:
            raise InvalidInput(field, "", "it is missing", example)
        return self.arguments[index]


Run = Callable[[Request], Coroutine[Any, Any, Answer]]
Late = Callable[[Core, Arguments], Awaitable[SandboxError]]


async def _late_look(core: Core, _arguments: Arguments) -> SandboxError:
    return await what_is_away(core, _BUDGET)


@dataclass(frozen=True, slots=True)
class Spec:
    """How a command runs: `budget` is in seconds; `late` builds the error when it takes longer."""

    run: Run
    budget: float = _BUDGET
    slow: bool = False
    """Show "typing…" meanwhile: the command may take several seconds."""
    late: Late = _late_look


class Commands:
    """The owner's commands by their word. `clock` measures the age of a question."""

    def __init__(self, bot: AnyBot, core: Core, clock: Callable[[], datetime] = utc_now) -> None:
        self._bot = bot
        self._core = core
        self._clock = clock
        self._asked: dict[str, tuple[UUID, datetime]] = {}
        self._specs = {
            "help": Spec(self._help),
            "list": Spec(self._list),
            "status": Spec(self._status),
            "destroy": Spec(self._destroy, _DESTROY_BUDGET, slow=True, late=_late_destruction),
            "extend": Spec(self._extend, late=_late_change),
            "audit": Spec(self._audit),
            "routes": Spec(self._routes),
            "cleanup": Spec(self._cleanup, _PASS_BUDGET, slow=True, late=_late_cleanup),
            "orphans": Spec(self._orphans, _PASS_BUDGET, slow=True, late=_late_orphans),
            "sync": Spec(self._sync, slow=True, late=_late_sync),
            "health": Spec(self._health),
        }

    def spec(self, word: str) -> Spec:
        """Return how to run the command with this word, one of `OWNER_COMMANDS`."""
        return self._specs[word]

    async def _help(self, _request: Request) -> Answer:
        return _render.usage()

    async def _list(self, _request: Request) -> Answer:
        return _render.listing(await self._core.manager.list())

    async def _status(self, request: Request) -> Answer:
        if not request.arguments:
            return await self._overview()
        health = await self._core.manager.health(request.arguments[0])
        events = self._core.router.activity.sandbox_events_last_minute(str(health.sandbox.id))
        limits = Limits.of(self._core.settings)
        return _render.status(
            health, self._guild_names(health.sandbox), events, limits=limits, now=self._clock()
        )

    async def _overview(self) -> Answer:
        sandboxes: list[Sandbox] | None = None
        problem = ""
        try:
            sandboxes = await self._core.manager.list()
        except DependencyUnavailable as error:
            # The owner needs the overview most during a failure: show the rest anyway.
            problem = error.named_reason
        router, routes = self._core.router, self._core.routes
        return _render.overview(
            sandboxes,
            problem,
            guilds=len(self._bot.guilds),
            routed=int(routes.statistics()["guilds"]),
            current=routes.current_table is not None,
            trouble=routes.trouble,
            pending=router.pending,
            waiting_for=router.waiting_for,
        )

    async def _destroy(self, request: Request) -> Answer:
        name = request.argument(0, "name", "`destroy welcome-flow`")
        manager = self._core.manager
        sandbox = await manager.get(name)
        asked = self._asked.pop(request.actor.id, None)
        confirmed = len(request.arguments) > 1 and request.arguments[1].lower() == "yes"
        if confirmed and asked is not None:
            asked_about, at = asked
            if asked_about == sandbox.id and self._clock() - at <= QUESTION_LIFE:
                return _render.destroyed(await manager.destroy(request.actor, str(sandbox.id)))
        self._asked[request.actor.id] = (sandbox.id, self._clock())
        return _render.destroy_question(sandbox, self._guild_names(sandbox), QUESTION_LIFE)

    async def _extend(self, request: Request) -> Answer:
        example = "`extend welcome-flow 24h`"
        name = request.argument(0, "name", example)
        request.argument(1, "duration", example)
        duration = " ".join(request.arguments[1:])
        return _render.extended(
            await self._core.manager.extend(request.actor, name, duration, cause_id=request.cause_id)
        )

    async def _audit(self, request: Request) -> Answer:
        name = request.argument(0, "name", "`audit welcome-flow`")
        return _render.audit(name, await self._core.manager.audit(name, limit=_render.AUDIT_ENTRIES))

    async def _routes(self, _request: Request) -> Answer:
        provider = self._core.routes
        table = provider.current_table
        if table is None:
            raise DependencyUnavailable("PostgreSQL", provider.trouble or "the routes are not loaded yet")
        routes = table.routes(self._clock().timestamp())
        names: dict[str, str] = {}
        if routes:
            names = {str(sandbox.id): sandbox.name for sandbox in await self._core.manager.list()}
        guilds = self._names_of(routes)
        return _render.routes(routes, names, guilds, provider.statistics())

    async def _cleanup(self, _request: Request) -> Answer:
        return _render.cleaned(*await self._core.cleanup.run())

    async def _orphans(self, request: Request) -> Answer:
        cleanup = self._core.cleanup
        if not request.arguments:
            return _render.orphans(await cleanup.find_orphaned_resources())
        words = [argument.lower() for argument in request.arguments]
        if words not in (["fix"], ["fix", "unknown"]):
            reason = "only `fix` or `fix unknown` may follow"
            raise InvalidInput("word", " ".join(request.arguments), reason, "`orphans fix` deletes them")
        unknown = len(words) == 2
        done = await cleanup.cleanup_orphaned_resources(unknown=unknown, actor=request.actor)
        return _render.orphans_removed(done, unknown=unknown)

    async def _sync(self, _request: Request) -> Answer:
        if "sandbox_cogs.sandbox" not in self._bot.extensions:
            return _render.no_commands_loaded()
        # Imported here: a reload of the extension replaces its modules.
        from sandbox_cogs.sandbox import sync_commands  # noqa: PLC0415

        results: dict[str, str] = {}
        for guild_id in self._core.settings.discord_dev_guild_ids:
            try:
                await sync_commands(self._bot, [guild_id])
                results[guild_id] = ""
            except discord.HTTPException as error:
                who = "Discord" if is_discords(error) else "a proxy before Discord"
                results[guild_id] = f"{who} answered with status {error.status}"
                if isinstance(error, discord.Forbidden) and is_discords(error):
                    scopes = "invite the bot there with the scopes bot and applications.commands"
                    results[guild_id] = f"Discord refused it: {scopes}"
            except NO_ANSWER as error:
                # Some of the commands may be published already.
                raise CutOff(discord_away(error)) from error
        return _render.synced(results, self._names_of(results))

    async def _health(self, _request: Request) -> Answer:
        found = _render.health(
            await self._core.health.check_system(),
            gateway_seconds=self._bot.latency,
            gateway_ready=self._bot.is_ready(),
        )
        return replace(found, view=isolation_button())

    def _guild_names(self, sandbox: Sandbox) -> dict[str, str]:
        return self._names_of(sandbox.guild_ids)

    def _names_of(self, guild_ids: Any) -> dict[str, str]:
        """Return the names of guilds that the gateway has sent."""
        guilds = (self._bot.get_guild(int(guild_id)) for guild_id in guild_ids)
        return {str(guild.id): storable(guild.name) for guild in guilds if guild is not None}


async def _late_change(core: Core, _arguments: Arguments) -> SandboxError:
    return await perhaps_changed(core, _BUDGET)


async def _late_destruction(core: Core, arguments: Arguments) -> SandboxError:
    return await perhaps_destroyed(core, arguments[0], _DESTROY_BUDGET)


async def _late_cleanup(_core: Core, _arguments: Arguments) -> SandboxError:
    return CleanupFailed(
        "the expired sandboxes", "waiting for the stores", f"not done in {_PASS_BUDGET:g} seconds"
    )


async def _late_orphans(core: Core, arguments: Arguments) -> SandboxError:
    return await (perhaps_changed if arguments else what_is_away)(core, _PASS_BUDGET)


async def _late_sync(_core: Core, _arguments: Arguments) -> SandboxError:
    return CutOff(discord_away(seconds=_BUDGET))
