"""What `sandboxctl sessions` shows: how each connection began, why one was refused, and how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox_core.models import Sandbox
from sandbox_gateway.calls import Ring
from tests.e2e.harness import eventually

from .raw import ALL, connected
from .stage import ALICE, Process, Stage


async def told(stage: Stage, sandbox: Sandbox, count: int) -> list[tuple[str, dict[str, Any]]]:
    """The first so many things that are kept, in their order."""
    ring = Ring.of_sessions(stage.core.redis, sandbox.id)

    async def all_there() -> bool:
        return len(await ring.last(count + 1)) >= count

    await eventually(all_there)
    found = await ring.last(count + 1)
    assert len(found) == count
    return [(each.what, dict(each.details)) for each in found]


async def test_a_session_from_its_beginning_to_its_end(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    token = stage.token(mine)
    async with connected(process) as raw:
        await raw.identify(token)
        stage.sim.message(guild, content="one")
        await raw.until_content("one")
    await told(stage, mine, 2)
    async with connected(process) as again:
        await again.resume(token, raw.session_id, 2)
        await again.until_event("RESUMED")
        await again.send(4, {"guild_id": str(guild.id), "channel_id": None})
        await told(stage, mine, 4)
        await stage.core.manager.rotate(ALICE, "mine")
        assert await again.close_code() == 4004
    number = (await told(stage, mine, 5))[0][1]["session"]
    assert await told(stage, mine, 5) == [
        ("identified", {"session": number, "shard": 0, "shards": 1, "intents": ALL}),
        ("left", {"session": number, "code": 1000}),
        ("resumed", {"session": number, "sequence": 2, "missed": 1}),
        ("voice_refused", {"session": number, "reason": "there is no voice here"}),
        (
            "closed",
            {"session": number, "code": 4004, "reason": "the sandbox has other credentials now"},
        ),
    ]


async def test_why_a_connection_was_refused(
    stage: Stage, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    token = stage.token(mine)
    application = stage.sim.world.application()
    monkeypatch.setattr(stage.sim.world, "application", lambda: {**application, "flags": 1 << 19})
    async with connected(process) as raw:
        await raw.send(2, {"token": token, "intents": 1 | 1 << 1})
        assert await raw.close_code() == 4014
    async with connected(process) as raw:
        await raw.send(6, {"token": token, "session_id": "nobodys", "seq": 1})
        assert [each["d"] for each in await raw.until(lambda each: each["op"] == 9)][-1] is False
    # Nobody knows whose this one is.
    async with connected(process) as raw:
        await raw.send(6, {"token": f"{token[:-4]}AAAA", "session_id": "nobodys", "seq": 1})
        assert await raw.close_code() == 4004
    assert await told(stage, mine, 2) == [
        ("closed", {"code": 4014, "reason": "the application lacks a privileged intent"}),
        ("refused", {"reason": "unknown_session"}),
    ]
