"""A worker for both worlds: it gives members points for their messages and answers `/rank`.

    DATABASE_URL=… REDIS_URL=… NATS_URL=… python docs/worker_example.py     # production
    sandboxctl exec NAME -- python docs/worker_example.py                   # a sandbox

There is no `if` for the sandbox anywhere: the tables, keys, events and subjects are those of the world that
the environment names. End it with Ctrl-C or SIGTERM; what it had not finished is delivered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from typing import Any

import aiohttp

from sandbox_core.context import Event, SandboxContext
from sandbox_core.settings import SettingsError

log = logging.getLogger("worker")

API = os.environ.get("DISCORD_API_URL", "https://discord.com/api/v10")
POINTS = 20
BADGE = "first-words"
COOLDOWN_SECONDS = 60
COMMAND, REPLY, EPHEMERAL = 2, 4, 64

# No schema in front of the tables: the pool's `search_path` says which are meant.
ADD_POINTS = """
WITH community AS (
    INSERT INTO communities (guild_id, name) VALUES ($1, $1)
    ON CONFLICT (guild_id) DO UPDATE SET updated_at = now()
    RETURNING id
)
INSERT INTO profiles (community_id, user_id, display_name, xp, metadata)
SELECT id, $2, $3, $4, $5 FROM community
ON CONFLICT (community_id, user_id) DO UPDATE
    SET xp = profiles.xp + excluded.xp, display_name = excluded.display_name,
        metadata = profiles.metadata || excluded.metadata, updated_at = now()
    WHERE profiles.metadata -> 'message' IS DISTINCT FROM excluded.metadata -> 'message'
"""
PROFILE = """
SELECT profiles.id, EXISTS (
    SELECT 1 FROM badges WHERE profile_id = profiles.id AND code = $3
) AS has_badge
FROM profiles JOIN communities ON communities.id = community_id
WHERE guild_id = $1 AND user_id = $2
"""
AWARD = "INSERT INTO badges (profile_id, code) VALUES ($1, $2) ON CONFLICT DO NOTHING"
RANK = """
SELECT xp, place FROM (
    SELECT user_id, xp, rank() OVER (ORDER BY xp DESC) AS place
    FROM profiles JOIN communities ON communities.id = community_id
    WHERE guild_id = $1
) AS ranked
WHERE user_id = $2
"""


async def on_message(ctx: SandboxContext, guild_id: str, message: dict[str, Any]) -> None:
    """Give the author points, at most once a minute.

    The same message may come again, whatever of this was done the first time. So each step can be done
    twice: nothing is given twice, and nothing is left out.
    """
    author = message["author"]
    if author.get("bot"):
        return
    cooldown = f"cooldown:{guild_id}:{author['id']}"
    begun = await ctx.redis.set(cooldown, message["id"], nx=True, ex=COOLDOWN_SECONDS)
    if not begun and await ctx.redis.get(cooldown) != message["id"]:
        return
    # The profile keeps which message it had points for last.
    mark = {"message": message["id"]}
    await ctx.pool.execute(ADD_POINTS, guild_id, author["id"], author["username"], POINTS, mark)
    profile = await ctx.pool.fetchrow(PROFILE, guild_id, author["id"], BADGE)
    if profile is not None and not profile["has_badge"]:
        # For whoever else listens in this world: a welcome message, statistics, … Told first and noted then:
        # twice does less harm than never.
        badge = {"guild_id": guild_id, "user_id": author["id"], "code": BADGE}
        await ctx.publish("badges.awarded", json.dumps(badge).encode())
        await ctx.pool.execute(AWARD, profile["id"], BADGE)


async def on_interaction(
    ctx: SandboxContext, http: aiohttp.ClientSession, guild_id: str, interaction: dict[str, Any]
) -> None:
    """`/rank`: answered with the interaction's own token, so a worker needs no bot token."""
    if interaction["type"] != COMMAND or interaction["data"]["name"] != "rank":
        return
    row = await ctx.pool.fetchrow(RANK, guild_id, interaction["member"]["user"]["id"])
    text = f"You have {row['xp']} points, place {row['place']}." if row else "Write something first!"
    url = f"{API}/interactions/{interaction['id']}/{interaction['token']}/callback"
    reply = {"type": REPLY, "data": {"content": text, "flags": EPHEMERAL}}
    try:
        async with http.post(url, json=reply) as response:
            response.raise_for_status()
    except aiohttp.ClientError as error:
        # The token is good for 3 seconds: the same event, delivered again, would be answered too late.
        log.warning("/rank was not answered: %s", error)


async def handle(ctx: SandboxContext, http: aiohttp.ClientSession, event: Event) -> None:
    """One event. Whatever is raised here has it delivered again, once the worker is back."""
    if event.guild_id is None or event.data is None:
        return
    if event.type == "MESSAGE_CREATE":
        await on_message(ctx, event.guild_id, event.data)
    else:
        await on_interaction(ctx, http, event.guild_id, event.data)
    await ctx.redis.hincrby("handled", event.type, 1)


async def work() -> None:
    """Handle events until cancelled."""
    async with SandboxContext.from_env() as ctx, aiohttp.ClientSession() as http:
        log.info("working in %s", ctx.world.name or "production")
        # `aclosing` hands events that were fetched ahead to the next worker when this one ends.
        async with contextlib.aclosing(ctx.events("MESSAGE_CREATE", "INTERACTION_CREATE")) as events:
            async for event in events:
                await handle(ctx, http, event)


async def main() -> None:
    """Work until SIGTERM; Ctrl-C cancels by itself."""
    working = asyncio.create_task(work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    await working


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        log.info("ended")
    except SettingsError as error:
        sys.exit(str(error))
