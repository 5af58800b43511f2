"""What the worker in `docs/` makes of a busy morning that was recorded, and of one message."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sandbox_bot.pytest_plugin import TestedSandbox
from sandbox_core.context import SandboxContext

HERE = Path(__file__).parent
WORKER = (sys.executable, str(HERE.parent / "worker_example.py"))
POINTS = """
SELECT profiles.xp FROM profiles JOIN communities ON communities.id = community_id
WHERE communities.guild_id = $1 ORDER BY profiles.user_id
"""


def handled(sandbox: TestedSandbox) -> tuple[int, list[int]]:
    """How many messages the worker has handled, and each member's points in the order of their ids."""

    async def read() -> tuple[int, list[int]]:
        async with SandboxContext.from_env(sandbox.environment) as ctx:
            rows = await ctx.pool.fetch(POINTS, sandbox.guild_ids[0])
            count = await ctx.redis.hget("handled", "MESSAGE_CREATE")
            return int(count or 0), [row["xp"] for row in rows]

    return asyncio.run(read())


def test_a_busy_morning_gives_each_their_points(sandbox: TestedSandbox) -> None:
    replayed = sandbox.replay(HERE / "morning.jsonl")
    assert [each["event"] for each in replayed] == ["MESSAGE_CREATE"] * 3
    with sandbox.running(*WORKER):
        sandbox.until(lambda: handled(sandbox)[0] == 3)
    # Two people wrote, one of them twice within a minute, which counts once.
    assert handled(sandbox) == (3, [20, 20])


def test_a_message_gives_points(sandbox: TestedSandbox) -> None:
    with sandbox.running(*WORKER):
        sandbox.emit("MESSAGE_CREATE", "d.content=hello")
        sandbox.until(lambda: handled(sandbox) == (1, [20]))
