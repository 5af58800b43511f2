"""Nothing a server does keeps a person waiting: answers come in time, also when PostgreSQL hangs.

simcord's clock stands still while a bot waits for a server, so these tests hand the commands a recorded
interaction instead. The stores are real, and really hang.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import discord
import pytest
from structlog.testing import capture_logs

from sandbox_cogs.sandbox import _access, _autocomplete
from sandbox_cogs.sandbox._group import SandboxCommands
from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import load_settings
from sandbox_core.tasks import within

from .conftest import COOKS_GUILD, DEV_GUILD


class RecordedInteraction:
    """What a command does with its interaction, in order."""

    type = discord.InteractionType.application_command
    id = 1
    guild_id = DEV_GUILD
    command = None

    def __init__(self, client: object) -> None:
        self.client = client
        self.user = SimpleNamespace(id=200000000000000001, display_name="alice")
        self.extras: dict[Any, Any] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.response = SimpleNamespace(defer=self._defer, is_done=lambda: bool(self.calls))

    async def _defer(self, **options: Any) -> None:
        self.calls.append(("defer", options))

    async def edit_original_response(self, **message: Any) -> None:
        self.calls.append(("answer", message))


class HostStub:
    """The parts of a bot that a command asks."""

    owner_id = 0
    shard_count = 1

    async def is_owner(self, _user: object) -> bool:
        return False

    def get_guild(self, _guild_id: int) -> None:
        return None


@asynccontextmanager
async def postgres_hangs(database_url: str) -> AsyncIterator[None]:
    """Every statement on sandboxes waits until the end of the block."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE sandboxes IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("create", {"name": "never"}),
        ("list", {}),
        ("status", {"name": "never"}),
        ("connect", {"name": "never"}),
        ("register-guild", {"name": "never"}),
        ("unregister-guild", {}),
        ("extend", {"name": "never", "duration": "1h"}),
        ("destroy", {"name": "never"}),
    ],
)
async def test_every_command_answers_while_postgres_hangs(
    core: Core,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: dict[str, str],
) -> None:
    async def access(_bot: object, guild_id: str, _user_id: int) -> GuildAccess:
        return GuildAccess(guild_id, bot_is_member=True, caller_manages=True)

    monkeypatch.setattr("sandbox_cogs.sandbox._access.guild_access", access)
    # All servers answer, sooner or later, and it is a lock that is waited for.
    monkeypatch.setattr("sandbox_cogs._late.PROBE_SECONDS", 20.0)
    interaction = RecordedInteraction(HostStub())
    found = SandboxCommands(core, budget=0.2).get_command(command)
    assert found is not None
    async with postgres_hangs(database_url):
        await cast("Any", found).callback(cast("Any", found).binding, interaction, **options)
    (first, first_options), (second, message) = interaction.calls
    assert (first, second) == ("defer", "answer")
    assert first_options == {"ephemeral": True, "thinking": True}
    assert message["embed"].footer.text == "SANDBOX_012"
    assert message["embed"].title == "PostgreSQL has not finished this: not done within 0.2 s."
    assert await core.manager.list(include_destroyed=True) == []
    assert await core.pool.fetchval("SELECT count(*) FROM sandbox_audit_log") == 0


async def test_a_creation_that_was_given_up_counts_as_slow(core: Core, database_url: str) -> None:
    create = SandboxCommands(core, budget=0.2).get_command("create")
    assert create is not None

    def observed() -> tuple[float, float, float]:
        value = core.metrics.registry.get_sample_value
        name = "sandbox_creation_duration_seconds"
        return (
            value(f"{name}_count") or 0.0,
            value(f"{name}_sum") or 0.0,
            value("sandbox_create_failures_total", {"reason": "CANCELLED"}) or 0.0,
        )

    before = observed()
    async with postgres_hangs(database_url):
        interaction = RecordedInteraction(HostStub())
        await cast("Any", create).callback(cast("Any", create).binding, interaction, name="never")
    async with asyncio.timeout(60):
        while observed()[2] == before[2]:
            await asyncio.sleep(0.01)
    count, seconds, _ = (now - then for now, then in zip(observed(), before, strict=True))
    assert count == 1
    assert seconds >= 0.2


async def test_autocomplete_gives_up_in_time(
    core: Core, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_autocomplete, "BUDGET_SECONDS", 0.2)
    interaction = cast("Any", RecordedInteraction(HostStub()))
    async with postgres_hangs(database_url):
        assert await _autocomplete.suggest_sandboxes(core, interaction, "") == []
    assert interaction.calls == []


async def test_discord_not_answering_is_a_dependency_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class SilentDiscord(HostStub):
        async def fetch_guild(self, _guild_id: int, *, with_counts: bool) -> None:
            assert not with_counts
            await asyncio.Event().wait()

    monkeypatch.setattr(_access, "LOOKUP_SECONDS", 0.05)
    with pytest.raises(DependencyUnavailable) as caught:
        await _access.guild_access(cast("Any", SilentDiscord()), str(COOKS_GUILD), 1)
    assert caught.value.dependency == "Discord"


async def test_the_bots_owners_are_those_of_the_settings_else_of_the_application(
    database_url: str, redis_url: str, nats_url: str
) -> None:
    class OwnedByAnybody(HostStub):
        async def is_owner(self, _user: object) -> bool:
            return True

    servers = {"database_url": database_url, "redis_url": redis_url, "nats_url": nats_url}
    interaction = cast("Any", RecordedInteraction(OwnedByAnybody()))

    async def actor(owner_ids: str) -> Actor:
        settings = load_settings(_env_file=None, discord_owner_ids=owner_ids, **servers)
        return await _access.actor_of(interaction, settings)

    assert await actor("200000000000000001") == Actor("200000000000000001", "alice", is_bot_owner=True)
    assert await actor("200000000000000002") == Actor("200000000000000001", "alice", is_bot_owner=False)
    assert await actor("") == Actor("200000000000000001", "alice", is_bot_owner=True)


async def test_work_that_resists_its_cancellation_is_not_waited_for() -> None:
    released, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()
            ended.set()
            raise RuntimeError("undoing failed")

    with capture_logs() as logs:
        with pytest.raises(TimeoutError):
            await within(0.01, stubborn())
        assert not ended.is_set()
        released.set()
        await ended.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [entry["event"] for entry in logs] == ["abandoned_work_failed"]


async def test_cancelling_the_caller_cancels_the_work() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    caller = asyncio.create_task(within(60, work()))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await cancelled.wait()
