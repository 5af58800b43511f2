"""Syncing of application commands, global and per guild."""

from __future__ import annotations

from discord_sim.errors import ApiError
from discord_sim.jsontypes import JsonValue
from discord_sim.rest.routing import NO_CONTENT, Answer, Call, RouteTable

ROUTES = RouteTable()
GLOBAL = "/applications/{application_id}/commands"
GUILD = "/applications/{application_id}/guilds/{guild_id}/commands"


def _scope(call: Call) -> int | None:
    """The guild of the path, after checking that the application is the bot's own."""
    if call.id("application_id") != call.server.world.application_id:
        raise ApiError(403, 20012, "You are not authorized to perform this action on this application")
    if "guild_id" not in call.params:
        return None
    guild = call.server.world.guilds.get(call.id("guild_id"))
    if guild is None or not guild.has_bot or not guild.takes_commands:
        raise ApiError(403, 50001, "Missing Access")
    return guild.id


@ROUTES.add("GET", GLOBAL)
@ROUTES.add("GET", GUILD)
async def list_commands(call: Call) -> JsonValue:
    """What is synced."""
    return call.server.world.commands.in_scope(_scope(call))


@ROUTES.add("PUT", GLOBAL)
@ROUTES.add("PUT", GUILD)
async def overwrite_commands(call: Call) -> JsonValue:
    """Replace everything of the scope."""
    return call.server.world.commands.replace(_scope(call), call.body)


@ROUTES.add("POST", GLOBAL)
@ROUTES.add("POST", GUILD)
async def create_command(call: Call) -> JsonValue:
    """Create one, or overwrite the one of the same name."""
    command, new = call.server.world.commands.create(_scope(call), call.json())
    return Answer(201 if new else 200, command)


@ROUTES.add("GET", GLOBAL + "/{command_id}")
@ROUTES.add("GET", GUILD + "/{command_id}")
async def get_command(call: Call) -> JsonValue:
    """One command."""
    return call.server.world.commands.get(_scope(call), call.id("command_id"))


@ROUTES.add("PATCH", GLOBAL + "/{command_id}")
@ROUTES.add("PATCH", GUILD + "/{command_id}")
async def edit_command(call: Call) -> JsonValue:
    """Change one command."""
    return call.server.world.commands.edit(_scope(call), call.id("command_id"), call.json())


@ROUTES.add("DELETE", GLOBAL + "/{command_id}")
@ROUTES.add("DELETE", GUILD + "/{command_id}")
async def delete_command(call: Call) -> JsonValue:
    """Remove one command."""
    call.server.world.commands.delete(_scope(call), call.id("command_id"))
    return NO_CONTENT


@ROUTES.add("GET", GUILD + "/permissions")
async def command_permissions(call: Call) -> JsonValue:
    """Overrides from the Integrations page: there are none here."""
    _scope(call)
    return []
