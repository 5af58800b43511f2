"""The commands of `/sandbox`: their names, descriptions and parameters.

The module named after a command has its behaviour, which buttons use, too. The manager decides who may do
what to which sandbox.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from sandbox_cogs._core import AnyBot
from sandbox_cogs._correlation import correlated
from sandbox_core.models import RestLevel, SandboxStatus, ShareAccess

from . import (
    _connect,
    _create,
    _destroy,
    _events,
    _extend,
    _help,
    _level,
    _list,
    _register,
    _reset,
    _rotate,
    _share,
    _status,
    _unregister,
)
from ._access import may_use_unasked
from ._autocomplete import (
    Choices,
    GuildSuggestions,
    leave_to_others,
    suggest_event_types,
    suggest_sandboxes,
    suggest_templates,
)
from ._errors import report
from ._reply import BUDGET_SECONDS, Answer, answer_anew

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]

_NAME = "Which sandbox"
_GUILD = "A server you manage, from the list or by its id"


@app_commands.guild_only()
class SandboxCommands(app_commands.Group, name="sandbox", description="Sandboxes for developing this bot"):
    """The group `/sandbox`, registered for the dev guilds, or globally when none are set."""

    def __init__(self, core: Core, *, budget: float = BUDGET_SECONDS) -> None:
        """`budget` is the limit in seconds for the work behind one answer."""
        settings = core.settings
        guild_ids = [int(guild_id) for guild_id in settings.discord_dev_guild_ids]
        manage_server = discord.Permissions(manage_guild=True)
        super().__init__(
            guild_ids=guild_ids or None,
            # See `check_may_use`: with roles Discord shows the commands to all, and the check decides.
            default_permissions=None if settings.discord_dev_role_ids else manage_server,
        )
        self._core = core
        self._budget = budget
        self._guild_suggestions = GuildSuggestions()

    async def on_error(
        self, interaction: discord.Interaction[Any], error: app_commands.AppCommandError
    ) -> None:
        """Report failures before a command's own work, such as arguments of an outdated command."""
        await report(interaction, error)

    @app_commands.command(description="Make a sandbox, where your bot or worker gets chosen servers' events")
    @app_commands.describe(
        name="3 to 63 of a-z, 0-9 and -; generated when left out",
        ttl="How long it lives: 90m, 24h, 3d, or a number of hours",
        guild="Register a server with it at once: one you manage, from the list or by its id",
        template="What it begins with, from the list; `none`: no template",
    )
    async def create(
        self,
        interaction: Interaction,
        name: str | None = None,
        ttl: str | None = None,
        guild: str | None = None,
        template: str | None = None,
    ) -> None:
        """`/sandbox create [name] [ttl] [guild] [template]`."""
        work = _create.create(self._core, interaction, name, ttl, guild, template=template)
        settings = self._core.settings
        extra = settings.sandbox_template_seconds if settings.sandbox_templates_dir is not None else 0
        await self._answer(interaction, work, changes=True, budget=self._budget + extra)

    @app_commands.command(name="list", description="Every sandbox: whose it is, its status and when it ends")
    @app_commands.describe(
        owner="Only this person's, and those shared with them",
        status="Only those with this status",
        everything="Destroyed ones too",
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
        filters = _list.Filters(
            owner=str(owner.id) if owner is not None else None,
            status=SandboxStatus(status) if status is not None else None,
            everything=everything,
        )
        work = _list.page_of(self._core, filters, 1, viewer=str(interaction.user.id))
        await self._answer(interaction, work)

    @app_commands.command(description="One sandbox: its servers, its expiry and the health of its parts")
    @app_commands.describe(
        name=f"{_NAME}; by default this server's, else your only one",
        watch="Keep the answer up to date, for up to 14 minutes",
    )
    async def status(self, interaction: Interaction, name: str | None = None, watch: bool = False) -> None:
        """`/sandbox status [name] [watch]`."""
        await self._answer(interaction, _status.status(self._core, interaction, name, watch=watch))

    @app_commands.command(description="The last events of a sandbox, and how each looks; also repeats them")
    @app_commands.describe(
        name=f"{_NAME}: yours, or shared with you; by default this server's, else your only one",
        event_type="Only events of this type, such as MESSAGE_CREATE",
        follow="Keep the answer up to date, for up to 14 minutes",
    )
    @app_commands.rename(event_type="type")
    async def events(
        self,
        interaction: Interaction,
        name: str | None = None,
        event_type: str | None = None,
        follow: bool = False,
    ) -> None:
        """`/sandbox events [name] [type] [follow]`."""
        work = _events.events(self._core, interaction, name, event_type, follow=follow)
        await self._answer(interaction, work)

    @app_commands.command(description="The environment for a bot or a worker that runs inside your sandbox")
    @app_commands.describe(name=f"{_NAME}: one of yours, or shared with you to use")
    async def connect(self, interaction: Interaction, name: str) -> None:
        """`/sandbox connect name`."""
        await self._answer(interaction, _connect.connect(self._core, interaction, name))

    @app_commands.command(description="New credentials for your sandbox; the old ones are cut at once")
    @app_commands.describe(name=f"{_NAME} of yours")
    async def rotate(self, interaction: Interaction, name: str) -> None:
        """`/sandbox rotate name`."""
        await self._answer(interaction, _rotate.rotate(self._core, interaction, name))

    @app_commands.command(description="What a bot in a sandbox may do at Discord, in the sandbox's servers")
    @app_commands.describe(
        name=f"{_NAME} of yours", level="More takes the right to register each of its servers"
    )
    @app_commands.choices(
        level=[app_commands.Choice(name=each.value, value=each.value) for each in RestLevel]
    )
    async def level(self, interaction: Interaction, name: str, level: str) -> None:
        """`/sandbox level name level`."""
        work = _level.set_level(self._core, interaction, name, RestLevel(level))
        await self._answer(interaction, work, changes=True)

    @app_commands.command(description="Let a colleague see your sandbox, or work in it")
    @app_commands.describe(
        name=f"{_NAME} of yours",
        user="The colleague",
        access="see, the default: look at what happens in it; use: work in it, with credentials of their own",
    )
    @app_commands.choices(
        access=[app_commands.Choice(name=each.value, value=each.value) for each in ShareAccess]
    )
    async def share(
        self, interaction: Interaction, name: str, user: discord.User, access: str = ShareAccess.SEE.value
    ) -> None:
        """`/sandbox share name user [access]`."""
        work = _share.share(self._core, interaction, name, user, ShareAccess(access))
        await self._answer(interaction, work, changes=True)

    @app_commands.command(description="Take a colleague's access to your sandbox away, at once")
    @app_commands.describe(name=f"{_NAME} of yours", user="The colleague")
    async def unshare(self, interaction: Interaction, name: str, user: discord.User) -> None:
        """`/sandbox unshare name user`."""
        await self._answer(interaction, _share.unshare(self._core, interaction, name, user), changes=True)

    @app_commands.command(
        name="register-guild", description="Send a server's live events to a sandbox instead of production"
    )
    @app_commands.describe(name=f"{_NAME}; by default your only one", guild=f"{_GUILD}; by default this one")
    async def register_guild(
        self, interaction: Interaction, name: str | None = None, guild: str | None = None
    ) -> None:
        """`/sandbox register-guild [name] [guild]`."""
        work = _register.register(self._core, interaction, name, guild)
        await self._answer(interaction, work, changes=True)

    @app_commands.command(
        name="unregister-guild", description="Send a server's live events to production again"
    )
    @app_commands.describe(
        name=f"{_NAME} it must be registered with; by default the one that has it",
        guild=f"{_GUILD}; by default this one",
    )
    async def unregister_guild(
        self, interaction: Interaction, name: str | None = None, guild: str | None = None
    ) -> None:
        """`/sandbox unregister-guild [name] [guild]`."""
        work = _unregister.unregister(self._core, interaction, name, guild)
        await self._answer(interaction, work, changes=True)

    @app_commands.command(description="Let a sandbox live longer, up to the longest life allowed")
    @app_commands.describe(
        name=f"{_NAME} of yours", duration="How much longer: 90m, 24h, 3d, or a number of hours"
    )
    async def extend(self, interaction: Interaction, name: str, duration: str) -> None:
        """`/sandbox extend name duration`."""
        work = _extend.extend(self._core, interaction, name, duration)
        await self._answer(interaction, work, changes=True)

    @app_commands.command(description="Empty a sandbox, and begin it anew; its servers stay; asks first")
    @app_commands.describe(name=f"{_NAME}: yours, or shared with you to use; by default your only one")
    async def reset(self, interaction: Interaction, name: str | None = None) -> None:
        """`/sandbox reset [name]`."""
        await self._answer(interaction, _reset.ask(self._core, interaction, name))

    @app_commands.command(description="Delete a sandbox and everything in it, or all of yours; asks first")
    @app_commands.describe(name=f"{_NAME} of yours; by default your only one", everything="All of yours")
    @app_commands.rename(everything="all")
    async def destroy(
        self, interaction: Interaction, name: str | None = None, everything: bool = False
    ) -> None:
        """`/sandbox destroy [name] [all]`."""

        await self._answer(interaction, _destroy.ask(self._core, interaction, name, everything=everything))

    @app_commands.command(description="What each of these commands does, and the limits")
    async def help(self, interaction: Interaction) -> None:
        """`/sandbox help`."""

        await self._answer(interaction, _help.show(self._core, self.commands))

    @status.autocomplete("name")
    @events.autocomplete("name")
    @connect.autocomplete("name")
    @rotate.autocomplete("name")
    @level.autocomplete("name")
    @share.autocomplete("name")
    @unshare.autocomplete("name")
    @register_guild.autocomplete("name")
    @unregister_guild.autocomplete("name")
    @extend.autocomplete("name")
    @reset.autocomplete("name")
    @destroy.autocomplete("name")
    async def _suggest_names(self, interaction: Interaction, current: str) -> Choices:
        if self._core.publishing.is_answered_elsewhere(interaction.guild_id):
            await leave_to_others()
        # Discord asks for choices without the group's check.
        if not may_use_unasked(interaction, self._core.settings):
            return []
        return await suggest_sandboxes(self._core, interaction, current)

    @create.autocomplete("template")
    async def _suggest_templates(self, interaction: Interaction, current: str) -> Choices:
        if self._core.publishing.is_answered_elsewhere(interaction.guild_id):
            await leave_to_others()
        if not may_use_unasked(interaction, self._core.settings):
            return []
        return await suggest_templates(self._core, current)

    @events.autocomplete("event_type")
    async def _suggest_types(self, interaction: Interaction, current: str) -> Choices:
        if self._core.publishing.is_answered_elsewhere(interaction.guild_id):
            await leave_to_others()
        return suggest_event_types(current) if may_use_unasked(interaction, self._core.settings) else []

    @create.autocomplete("guild")
    @register_guild.autocomplete("guild")
    @unregister_guild.autocomplete("guild")
    async def _suggest_guilds(self, interaction: Interaction, current: str) -> Choices:
        if self._core.publishing.is_answered_elsewhere(interaction.guild_id):
            await leave_to_others()
        if not may_use_unasked(interaction, self._core.settings):
            return []
        return await self._guild_suggestions(interaction, current)

    async def _answer(
        self,
        interaction: Interaction,
        work: Coroutine[Any, Any, Answer],
        *,
        changes: bool = False,
        budget: float | None = None,
    ) -> None:
        if self._core.publishing.is_answered_elsewhere(interaction.guild_id):
            # The process that publishes the server's events got this interaction, too.
            work.close()
            return
        command = interaction.command.qualified_name if interaction.command is not None else self.name
        with correlated(self._core, command, cause_id=interaction.id, user_id=interaction.user.id):
            await answer_anew(interaction, self._core, work, changes=changes, budget=budget or self._budget)
