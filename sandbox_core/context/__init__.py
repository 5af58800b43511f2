"""The library for a bot's worker: the same code runs in a sandbox and in production.

    async with SandboxContext.from_env() as ctx:
        async for event in ctx.events("MESSAGE_CREATE"):
            await ctx.redis.incr("messages")
            await ctx.pool.execute(ADD_XP, event.data["author"]["id"])

Without `SANDBOX_ID` in the environment the code uses production's subjects, schema and keys.
"""

from ..nats.delivered import Event
from ._context import SandboxContext, Servers, World, environment
from ._events import Events

__all__ = ["Event", "Events", "SandboxContext", "Servers", "World", "environment"]
