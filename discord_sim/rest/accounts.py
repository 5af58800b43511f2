"""Routes for gateway addresses, the application, and users."""

from __future__ import annotations

from discord_sim.errors import invalid_form
from discord_sim.jsontypes import JsonValue
from discord_sim.rest.routing import Call, RouteTable
from discord_sim.world import shapes

ROUTES = RouteTable()


@ROUTES.add("GET", "/gateway", auth=False)
async def get_gateway(call: Call) -> JsonValue:
    """Return the gateway's address."""
    return {"url": call.backend.gateway_info()["url"]}


@ROUTES.add("GET", "/gateway/bot")
async def get_bot_gateway(call: Call) -> JsonValue:
    """Return the gateway's address, the recommended shard count, and the IDENTIFY limits."""
    return call.backend.gateway_info()


@ROUTES.add("GET", "/applications/@me")
@ROUTES.add("GET", "/oauth2/applications/@me")
async def get_application(call: Call) -> JsonValue:
    """Return the bot's application."""
    return call.backend.world.application()


@ROUTES.add("GET", "/users/@me")
async def get_self(call: Call) -> JsonValue:
    """Return the bot's account; libraries request it at the login."""
    return shapes.self_user(call.backend.world.bot)


@ROUTES.add("GET", "/users/@me/guilds")
async def get_own_guilds(call: Call) -> JsonValue:
    """Return the bot's guilds."""
    world = call.backend.world
    limit, after = call.number("limit", 200, 200), int(call.query.get("after") or 0)
    guilds = sorted((g for g in world.bot_guilds() if g.id > after), key=lambda g: g.id)
    return [
        {
            "id": str(g.id),
            "name": g.name,
            "icon": None,
            "banner": None,
            "owner": g.owner is world.bot,
            "permissions": str(g.members[world.bot.id].permissions),
            "features": [],
            "approximate_member_count": len(g.members),
            "approximate_presence_count": len(g.members),
        }
        for g in guilds[:limit]
    ]


@ROUTES.add("POST", "/users/@me/channels")
async def create_dm(call: Call) -> JsonValue:
    """Open the direct message channel with a user."""
    world = call.backend.world
    wanted = str(call.json().get("recipient_id", ""))
    user = world.users.get(int(wanted)) if wanted.isdigit() else None
    if user is None:
        raise invalid_form("recipient_id", "NUMBER_TYPE_COERCE", f'Value "{wanted}" is no user.')
    return shapes.channel(world.dm_channel(user))


@ROUTES.add("GET", "/users/{user_id}")
async def get_user(call: Call) -> JsonValue:
    """Return a user."""
    return shapes.user(call.user())
