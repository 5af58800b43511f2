"""Routes for application commands, global and per guild."""

from __future__ import annotations

from discord_sim.errors import ApiError, unknown
from discord_sim.jsontypes import JsonValue
from discord_sim.rest.routing import NO_CONTENT, Answer, Call, RouteTable

ROUTES = RouteTable()
GLOBAL = "/applications/{application_id}/commands"
GUILD = "/applications/{application_id}/guilds/{guild_id}/commands"


def _scope(call: Call) -> int | None:
    """Return the guild in the path, after a check that the application is the bot's."""
    if call.id("application_id") != call.backend.world.application_id:
        raise ApiError(403, 20012, "You are not authorized to perform this action on this application")
    if "guild_id" not in call.params:
        return None
    guild = call.backend.world.guilds.get(call.id("guild_id"))
    if guild is None or not guild.has_bot or not guild.takes_commands:
        raise ApiError(403, 50001, "Missing Access")
    return guild.id


@ROUTES.add("GET", GLOBAL)
@ROUTES.add("GET", GUILD)
async def list_commands(call: Call) -> JsonValue:
    """Return the synced commands."""
    return call.backend.world.commands.in_scope(_scope(call))


@ROUTES.add("PUT", GLOBAL)
@ROUTES.add("PUT", GUILD)
async def overwrite_commands(call: Call) -> JsonValue:
    """Replace all commands of the scope."""
    return call.backend.world.commands.replace(_scope(call), call.body)


@ROUTES.add("POST", GLOBAL)
@ROUTES.add("POST", GUILD)
async def create_command(call: Call) -> JsonValue:
    """Create a command, or overwrite the one with its name."""
    command, new = call.backend.world.commands.create(_scope(call), call.json())
    return Answer(201 if new else 200, command)


@ROUTES.add("GET", GLOBAL + "/{command_id}")
@ROUTES.add("GET", GUILD + "/{command_id}")
async def get_command(call: Call) -> JsonValue:
    """Return a command."""
    return call.backend.world.commands.get(_scope(call), call.id("command_id"))


@ROUTES.add("PATCH", GLOBAL + "/{command_id}")
@ROUTES.add("PATCH", GUILD + "/{command_id}")
async def edit_command(call: Call) -> JsonValue:
    """Change a command."""
    return call.backend.world.commands.edit(_scope(call), call.id("command_id"), call.json())


@ROUTES.add("DELETE", GLOBAL + "/{command_id}")
@ROUTES.add("DELETE", GUILD + "/{command_id}")
async def delete_command(call: Call) -> JsonValue:
    """Remove a command."""
    call.backend.world.commands.delete(_scope(call), call.id("command_id"))
    return NO_CONTENT


@ROUTES.add("GET", GUILD + "/permissions")
async def command_permissions(call: Call) -> JsonValue:
    """Answer that the Integrations page has no overrides."""
    _scope(call)
    return []


@ROUTES.add("GET", GUILD + "/{command_id}/permissions")
async def one_commands_permissions(call: Call) -> JsonValue:
    """Answer that the Integrations page has none for the command."""
    call.backend.world.commands.get(_scope(call), call.id("command_id"))
    raise unknown("application command permissions", 10066)
