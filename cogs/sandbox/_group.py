"""The commands of `/sandbox`: parse, look up who asks, call the manager, render.

Every rule about who may do what is the manager's. A command only gathers facts and shows results.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from cogs._core import AnyBot
from sandbox_core.context import environment
from sandbox_core.errors import InvalidInput
from sandbox_core.manager import utc_now
from sandbox_core.manager.rules import may_change, must_run
from sandbox_core.models import GuildAccess, Sandbox, SandboxStatus
from sandbox_core.validation import parse_guild_id

from . import _render
from ._access import actor_of, guild_access
from ._autocomplete import Choices, GuildSuggestions, suggest_sandboxes
from ._confirm import destroy_buttons
from ._errors import report
from ._reply import BUDGET_SECONDS, Answer, answer_command

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]

_NAME = "Which sandbox"
_GUILD = "A server by its id; the list shows those you manage"


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class SandboxCommands(app_commands.Group, name="sandbox", description="Sandboxes for developing this bot"):
    """The group `/sandbox`, registered for the dev guilds, or globally when none are set."""

    def __init__(self, core: Core, *, budget: float = BUDGET_SECONDS) -> None:
        """`budget` is how many seconds the work behind one answer may take."""
        guild_ids = [int(guild_id) for guild_id in core.settings.discord_dev_guild_ids]
        super().__init__(guild_ids=guild_ids or None)
        self._core = core
        self._budget = budget
        self._guild_suggestions = GuildSuggestions()

    async def on_error(
        self, interaction: discord.Interaction[Any], error: app_commands.AppCommandError
    ) -> None:
        """Failures before a command's own work begins: a check, or a command older than Discord's copy."""
        await report(interaction, error)

    @app_commands.command(description="Make a sandbox: a schema, a key prefix and a subject of your own")
    @app_commands.describe(
        name="3 to 63 of a-z, 0-9 and -; made up for you when left out",
        ttl="How long it lives: 90m, 24h, 3d, or a number of hours",
        guild="Register this server with it at once",
    )
    async def create(
        self,
        interaction: Interaction,
        name: str | None = None,
        ttl: str | None = None,
        guild: str | None = None,
    ) -> None:
        """`/sandbox create [name] [ttl] [guild]`."""

        async def work() -> Answer:
            actor = await actor_of(interaction, self._core.settings)
            guilds = [await self._access(interaction, guild)] if guild is not None else []
            sandbox = await self._core.manager.create(actor, name=name, ttl=ttl, guilds=guilds)
            return Answer(_render.created(sandbox, _guild_names(interaction, sandbox)))

        await self._answer(interaction, work())

    @app_commands.command(name="list", description="Every sandbox: whose it is, its status and when it ends")
    @app_commands.describe(
        owner="Only this person's", status="Only those with this status", everything="Destroyed ones too"
    )
    @app_commands.rename(everything="all")
    @app_commands.choices(
        status=[app_commands.Choice(name=status.value, value=status.value) for status in SandboxStatus]
    )
    async def list_(
        self,
        interaction: Interaction,
        owner: discord.User | None = None,
        status: str | None = None,
        everything: bool = False,
    ) -> None:
        """`/sandbox list [owner] [status] [all]`."""

        async def work() -> Answer:
            wanted = SandboxStatus(status) if status is not None else None
            sandboxes = await self._core.manager.list(
                owner=str(owner.id) if owner is not None else None,
                status=wanted,
                include_destroyed=everything or wanted is SandboxStatus.DESTROYED,
            )
            filtered = owner is not None or wanted is not None
            return Answer(_render.listing(sandboxes, filtered=filtered))

        await self._answer(interaction, work())

    @app_commands.command(description="One sandbox: its servers, its expiry and the health of its stores")
    @app_commands.describe(name=f"{_NAME}; by default this server's, else your only one")
    async def status(self, interaction: Interaction, name: str | None = None) -> None:
        """`/sandbox status [name]`."""

        async def work() -> Answer:
            reference = name if name is not None else await self._sandbox_here(interaction)
            health = await self._core.manager.health(reference)
            names = _guild_names(interaction, health.sandbox)
            return Answer(_render.status(health, names, now=utc_now()))

        await self._answer(interaction, work())

    @app_commands.command(description="The environment for a worker that runs inside your sandbox")
    @app_commands.describe(name=f"{_NAME} of yours")
    async def connect(self, interaction: Interaction, name: str) -> None:
        """`/sandbox connect name`."""

        async def work() -> Answer:
            actor = await actor_of(interaction, self._core.settings)
            sandbox = await self._core.manager.get(name)
            may_change(actor, sandbox, "connect to")
            must_run(sandbox, utc_now())
            embed, file = _render.environment(sandbox, environment(sandbox))
            return Answer(embed, file=file)

        await self._answer(interaction, work())

    @app_commands.command(
        name="register-guild", description="Send a server's live events to a sandbox instead of production"
    )
    @app_commands.describe(name=f"{_NAME}; by default your only one", guild=f"{_GUILD}; by default this one")
    async def register_guild(
        self, interaction: Interaction, name: str | None = None, guild: str | None = None
    ) -> None:
        """`/sandbox register-guild [name] [guild]`."""

        async def work() -> Answer:
            actor = await actor_of(interaction, self._core.settings)
            access = await self._access(interaction, guild)
            reference = name if name is not None else await self._only_sandbox(interaction)
            sandbox = await self._core.manager.register_guild(actor, reference, access)
            return Answer(_render.registered(sandbox, access))

        await self._answer(interaction, work())

    @app_commands.command(
        name="unregister-guild", description="Send a server's live events to production again"
    )
    @app_commands.describe(
        name=f"{_NAME} it must be registered with; by default whichever has it",
        guild=f"{_GUILD}; by default this one",
    )
    async def unregister_guild(
        self, interaction: Interaction, name: str | None = None, guild: str | None = None
    ) -> None:
        """`/sandbox unregister-guild [name] [guild]`."""

        async def work() -> Answer:
            actor = await actor_of(interaction, self._core.settings)
            access = await self._access(interaction, guild)
            sandbox = await self._core.manager.unregister_guild(actor, access, reference=name)
            return Answer(_render.unregistered(sandbox, access))

        await self._answer(interaction, work())

    @app_commands.command(description="Let a sandbox live longer, up to the longest life allowed")
    @app_commands.describe(
        name=f"{_NAME} of yours", duration="How much longer: 90m, 24h, 3d, or a number of hours"
    )
    async def extend(self, interaction: Interaction, name: str, duration: str) -> None:
        """`/sandbox extend name duration`."""

        async def work() -> Answer:
            actor = await actor_of(interaction, self._core.settings)
            return Answer(_render.extended(await self._core.manager.extend(actor, name, duration)))

        await self._answer(interaction, work())

    @app_commands.command(description="Delete a sandbox and everything in it; asks first")
    @app_commands.describe(name=f"{_NAME} of yours")
    async def destroy(self, interaction: Interaction, name: str) -> None:
        """`/sandbox destroy name`."""

        async def work() -> Answer:
            actor = await actor_of(interaction, self._core.settings)
            sandbox = await self._core.manager.get(name)
            # Asked now as well as after the click: nobody should be asked about what they may not do.
            may_change(actor, sandbox, "destroy")
            embed = _render.destroy_question(sandbox, _guild_names(interaction, sandbox))
            return Answer(embed, destroy_buttons(sandbox, interaction.user.id))

        await self._answer(interaction, work())

    @status.autocomplete("name")
    @connect.autocomplete("name")
    @register_guild.autocomplete("name")
    @unregister_guild.autocomplete("name")
    @extend.autocomplete("name")
    @destroy.autocomplete("name")
    async def _suggest_names(self, interaction: Interaction, current: str) -> Choices:
        return await suggest_sandboxes(self._core, interaction, current)

    @create.autocomplete("guild")
    @register_guild.autocomplete("guild")
    @unregister_guild.autocomplete("guild")
    async def _suggest_guilds(self, interaction: Interaction, current: str) -> Choices:
        return await self._guild_suggestions(interaction, current)

    async def _answer(self, interaction: Interaction, work: Coroutine[Any, Any, Answer]) -> None:
        await answer_command(interaction, work, budget=self._budget)

    async def _access(self, interaction: Interaction, guild: str | None) -> GuildAccess:
        guild_id = parse_guild_id(guild) if guild is not None else str(interaction.guild_id)
        return await guild_access(interaction.client, guild_id, interaction.user.id)

    async def _sandbox_here(self, interaction: Interaction) -> str:
        """The sandbox this guild's events go to, else the caller's only one."""
        here = await self._core.manager.for_guild(str(interaction.guild_id))
        return str(here.id) if here is not None else await self._only_sandbox(interaction)

    async def _only_sandbox(self, interaction: Interaction) -> str:
        own = await self._core.manager.list(owner=str(interaction.user.id))
        if len(own) == 1:
            return str(own[0].id)
        raise _must_say_which(own)


def _must_say_which(own: list[Sandbox]) -> InvalidInput:
    if not own:
        return InvalidInput("name", "", "you have no sandbox it could mean", "`/sandbox create` makes one")
    names = " or ".join(f"`{sandbox.name}`" for sandbox in own)
    return InvalidInput("name", "", f"you have {len(own)} sandboxes, so say which", names)


def _guild_names(interaction: Interaction, sandbox: Sandbox) -> dict[str, str]:
    """Names of the sandbox's guilds, as far as the gateway told them."""
    guilds = (interaction.client.get_guild(int(guild_id)) for guild_id in sandbox.guild_ids)
    return {str(guild.id): guild.name for guild in guilds if guild is not None}
