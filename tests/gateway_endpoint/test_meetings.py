"""Where replays, recordings, resets and sharing meet in one sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox_core.errors import (
    GuildNotRegistered,
    NotPermitted,
    SandboxError,
    SandboxNotFound,
    SandboxNotRunning,
)
from sandbox_core.manager import Colleague
from sandbox_core.models import GuildAccess, ShareAccess
from sandbox_core.workbench.emitting import Stored
from sandbox_core.workbench.repeating import Replayer

from .raw import connected
from .stage import ALICE, BOB, Process, Stage
from .test_emitted import emitted
from .test_protocol import pause
from .test_recordings import came_to, had, has_events, nothing_left, recording, same
from .test_replayed import events_of

__all__ = ["nothing_left"]


async def unshare(stage: Stage) -> None:
    await stage.core.manager.unshare(ALICE, "mine", BOB.id)


async def unregister(stage: Stage) -> None:
    access = GuildAccess(str(stage.guilds[0].id), bot_is_member=True, caller_manages=True)
    await stage.core.manager.unregister_guild(ALICE, access)


async def destroy(stage: Stage) -> None:
    await stage.core.manager.destroy(ALICE, "mine")


async def extend(stage: Stage) -> None:
    await stage.core.manager.extend(ALICE, "mine", "1h")


async def reset(stage: Stage) -> None:
    await stage.core.manager.reset(ALICE, "mine")


@pytest.mark.parametrize(
    ("meanwhile", "error"),
    [
        (unshare, NotPermitted),
        (unregister, GuildNotRegistered),
        (destroy, (SandboxNotFound, SandboxNotRunning)),
        (extend, None),
        (reset, None),
    ],
)
async def test_a_long_replay_sees_what_changes_meanwhile(
    stage: Stage, meanwhile: Callable[[Stage], Awaitable[None]], error: type[SandboxError] | None
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await stage.core.manager.share(ALICE, "mine", Colleague(BOB.id), ShareAccess.USE)
    await emitted(stage, mine, "MESSAGE_CREATE")
    (event,) = await events_of(stage, mine)
    events = [event, replace(event, stored_at=event.stored_at + timedelta(hours=1))]
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await meanwhile(stage)

    replayer = Replayer(stage.core.manager, stage.core.writing, monotonic=lambda: now, sleep=sleep)
    sandbox = await replayer.sandbox(BOB, "mine")
    stored: list[Stored] = []

    async def all_of_them() -> None:
        async for each in replayer.replay(sandbox, events, actor=BOB):
            stored.append(each)  # noqa: PERF401 (it may end in the middle)

    if error is None:
        await all_of_them()
        assert len(stored) == 2
    else:
        with pytest.raises(error) as ended:
            await all_of_them()
        assert len(stored) == 1
        assert "mine" in str(ended.value)
    if meanwhile is reset:
        # What came before has gone with it.
        assert [each.message_id for each in await events_of(stage, mine)] == [stored[1].event.message_id]


async def test_a_recording_goes_on_through_a_reset(stage: Stage) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with recording(stage):
        await library.start(ALICE, "mine", "talk")
        await emitted(stage, mine, "MESSAGE_CREATE", count=3)
        before = await events_of(stage, mine)
        await has_events(stage, "talk", 3)
        await reset(stage)
        await emitted(stage, mine, "TYPING_START", count=2)
        after = await events_of(stage, mine)
        await library.stop(ALICE, "mine", "talk")
        ended = await came_to(stage, "talk")
    assert (ended.events, ended.missed, ended.gaps, ended.reason) == (5, 0, 0, "")
    assert same(await had(stage, "talk"), [*before, *after])


async def test_what_a_reset_removes_before_it_is_recorded_is_counted(stage: Stage) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    # Nobody records yet.
    await library.start(ALICE, "mine", "talk")
    await emitted(stage, mine, "MESSAGE_CREATE", count=3)
    await reset(stage)
    await emitted(stage, mine, "TYPING_START", count=2)
    after = await events_of(stage, mine)
    async with recording(stage):
        await has_events(stage, "talk", 2)
        await library.stop(ALICE, "mine", "talk")
        ended = await came_to(stage, "talk")
    assert (ended.events, ended.missed, ended.reason) == (2, 3, "")
    assert same(await had(stage, "talk"), after)


async def test_a_recording_stopped_after_a_reset_that_left_nothing_ends(stage: Stage) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    await library.start(ALICE, "mine", "talk")
    await emitted(stage, mine, "MESSAGE_CREATE", count=3)
    await reset(stage)
    async with recording(stage):
        await library.stop(ALICE, "mine", "talk")
        ended = await came_to(stage, "talk")
    assert (ended.events, ended.missed, ended.reason) == (0, 3, "")


@pytest.mark.parametrize("whose", ["hers", "his"])
async def test_a_session_belongs_to_the_token_that_resumed_it(
    stage: Stage, process: Process, whose: str
) -> None:
    """Whoever may work in the sandbox may go on with any of its sessions; then it ends with that token."""
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    own = stage.token(mine)
    shared = await stage.core.manager.share(ALICE, "mine", Colleague(BOB.id), ShareAccess.USE)
    token = stage.core.manager.credentials_for(BOB, shared.sandbox)["DISCORD_TOKEN"]
    first, second = (own, token) if whose == "hers" else (token, own)
    async with connected(process) as begun:
        await begun.identify(first)
        await pause()
    async with connected(process) as resumed:
        await resumed.resume(second, begun.session_id, 2)
        await resumed.until_event("RESUMED")
        await unshare(stage)
        if second == token:
            assert await resumed.close_code() == 4004
        else:
            stage.sim.message(guild, content="for her")
            await resumed.until_content("for her")
