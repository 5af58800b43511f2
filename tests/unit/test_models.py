from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sandbox_core.errors import TransitionNotAllowed
from sandbox_core.models import TRANSITIONS, Sandbox, SandboxStatus, check_transition, shard_of, short_id

ARROWS = {
    ("pending", "creating"),
    ("creating", "running"),
    ("creating", "destroying"),
    ("running", "expired"),
    ("running", "destroying"),
    ("expired", "destroying"),
    ("destroying", "destroyed"),
}
"""The life cycle as the design draws it."""

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def sandbox(**changed: object) -> Sandbox:
    values: dict[str, object] = {
        "id": UUID("3f2a9c01-1111-4222-8333-444455556666"),
        "name": "welcome-flow",
        "owner": "200000000000000001",
        "status": SandboxStatus.RUNNING,
        "schema_name": "sandbox_3f2a9c01",
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }
    return Sandbox(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("target", SandboxStatus)
@pytest.mark.parametrize("current", SandboxStatus)
def test_every_pair_of_statuses(current: SandboxStatus, target: SandboxStatus) -> None:
    if (current.value, target.value) in ARROWS:
        check_transition(current, target)
    else:
        with pytest.raises(TransitionNotAllowed) as refused:
            check_transition(current, target)
        assert (refused.value.current, refused.value.target) == (current, target)


def test_the_table_names_every_status() -> None:
    assert set(TRANSITIONS) == set(SandboxStatus)


def test_every_status_can_reach_the_end() -> None:
    for status in SandboxStatus:
        reached, edge = {status}, {status}
        while edge:
            edge = {target for current in edge for target in TRANSITIONS[current]} - reached
            reached |= edge
        assert SandboxStatus.DESTROYED in reached


@pytest.mark.parametrize("status", SandboxStatus)
def test_only_a_running_sandbox_receives_events_and_only_before_its_expiry(status: SandboxStatus) -> None:
    box = sandbox(status=status)
    running = status is SandboxStatus.RUNNING
    assert box.routes_at(NOW) is running
    assert box.routes_at(box.expires_at - timedelta(microseconds=1)) is running
    assert box.routes_at(box.expires_at) is False
    assert box.routes_at(box.expires_at + timedelta(days=1)) is False


def test_the_short_id_is_in_the_schemas_name() -> None:
    assert sandbox().short_id == short_id(sandbox().id) == "3f2a9c01"


def test_the_owners_name_falls_back_to_the_id() -> None:
    assert sandbox(metadata={"owner_name": "Alice"}).owner_name == "Alice"
    assert sandbox(metadata={"owner_name": ""}).owner_name == "200000000000000001"
    assert sandbox().owner_name == "200000000000000001"


def test_a_guild_s_events_come_on_one_shard_and_those_of_no_guild_on_the_first() -> None:
    # Discord's developer documentation, "Gateway", sharding: (guild_id >> 22) % num_shards.
    guild = (7 << 22) + 5
    assert [shard_of(guild, count) for count in (1, 4, 5)] == [0, 3, 2]
    assert shard_of(str(guild), 4) == shard_of(guild, 4)
    assert shard_of(None, 4) == 0
