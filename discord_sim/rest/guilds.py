"""Routes for guilds, their members, roles and channels."""

from __future__ import annotations

from discord_sim.errors import unknown
from discord_sim.jsontypes import JsonValue
from discord_sim.rest.routing import NO_CONTENT, Call, RouteTable
from discord_sim.world import shapes

ROUTES = RouteTable()


@ROUTES.add("GET", "/guilds/{guild_id}")
async def get_guild(call: Call) -> JsonValue:
    """Return a guild."""
    return shapes.guild(call.guild(), counts=call.flag("with_counts"))


@ROUTES.add("GET", "/guilds/{guild_id}/roles")
async def list_roles(call: Call) -> JsonValue:
    """Return a guild's roles."""
    return [shapes.role(role) for role in call.guild().roles.values()]


@ROUTES.add("GET", "/guilds/{guild_id}/roles/{role_id}")
async def get_role(call: Call) -> JsonValue:
    """Return a role."""
    role = call.guild().roles.get(call.id("role_id"))
    if role is None:
        raise unknown("Role", 10011)
    return shapes.role(role)


@ROUTES.add("GET", "/guilds/{guild_id}/channels")
async def list_channels(call: Call) -> JsonValue:
    """Return a guild's channels."""
    return [shapes.channel(channel) for channel in call.guild().channels.values()]


@ROUTES.add("GET", "/guilds/{guild_id}/threads/active")
async def active_threads(call: Call) -> JsonValue:
    """Answer that a guild has no threads."""
    call.guild()
    return {"threads": [], "members": [], "has_more": False}


@ROUTES.add("GET", "/guilds/{guild_id}/scheduled-events")
async def scheduled_events(call: Call) -> JsonValue:
    """Answer that a guild plans no events."""
    call.guild()
    return []


@ROUTES.add("GET", "/soundboard-default-sounds")
async def default_sounds(call: Call) -> JsonValue:
    """Answer that there are none; py-cord is not ready before it has them."""
    return []


@ROUTES.add("GET", "/guilds/{guild_id}/soundboard-sounds")
async def soundboard_sounds(call: Call) -> JsonValue:
    """Answer that a guild has no sounds of its own."""
    call.guild()
    return {"items": []}


@ROUTES.add("GET", "/guilds/{guild_id}/members")
async def list_members(call: Call) -> JsonValue:
    """Return members by ascending user id."""
    limit, after = call.number("limit", 1, 1000), int(call.query.get("after") or 0)
    members = sorted(call.guild().members.values(), key=lambda m: m.user.id)
    return [shapes.member(m) for m in members if m.user.id > after][:limit]


@ROUTES.add("GET", "/guilds/{guild_id}/members/search")
async def search_members(call: Call) -> JsonValue:
    """Return members whose name or nickname starts with the query."""
    limit, query = call.number("limit", 1, 1000), call.query.get("query", "").lower()
    return [
        shapes.member(m)
        for m in call.guild().members.values()
        if m.user.name.lower().startswith(query) or (m.nick or "").lower().startswith(query)
    ][:limit]


@ROUTES.add("GET", "/guilds/{guild_id}/members/{user_id}")
async def get_member(call: Call) -> JsonValue:
    """Return a member. Raises `ApiError` 404 with code 10007 for a user who is not in the guild."""
    member = call.guild().members.get(call.id("user_id"))
    if member is None:
        raise unknown(
            "Member" if call.id("user_id") in call.backend.world.users else "User",
            10007 if call.id("user_id") in call.backend.world.users else 10013,
        )
    return shapes.member(member)


@ROUTES.add("DELETE", "/users/@me/guilds/{guild_id}")
async def leave_guild(call: Call) -> JsonValue:
    """Remove the bot from a guild."""
    call.guild().remove_bot()
    return NO_CONTENT
