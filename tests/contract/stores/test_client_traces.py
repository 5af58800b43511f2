"""What the gateway endpoint keeps of sandboxes is found by their ids, whatever it is, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from redis.asyncio import Redis

from sandbox_core.models import Sandbox
from sandbox_core.namespaces.client_traces import KEPT_SECONDS, ClientTraces
from sandbox_core.namespaces.redis import RedisNamespace
from sandbox_core.subjects import (
    LAST_EVENTS_KEY,
    NO_HOLDER,
    REST_STOPPED_KEY,
    channel_guild_key,
    client_identify_keys,
    client_session_key,
    gateway_session_key,
    redis_prefix,
    rest_invalid_key,
    rest_share_key,
    ring_key,
    route_key,
    seen_token_key,
)

GUILD = "100000000000000001"
HOLDER = "0123456789abcdef"


def traces_of(sandbox: Sandbox, number: int) -> dict[str, str]:
    """One of each kind."""
    named = [
        *client_identify_keys(sandbox.id),
        rest_share_key(sandbox.id),
        rest_invalid_key(sandbox.id),
        ring_key("calls", sandbox.id),
        ring_key("sessions", sandbox.id),
    ]
    return {
        **dict.fromkeys(named, "1"),
        client_session_key(sandbox.id, f"{number:x}"): f"{HOLDER}{{}}",
        seen_token_key("interaction", f"{number:064x}"): f"{sandbox.id} digest {GUILD}",
        seen_token_key("webhook", f"{number:064x}"): f"{sandbox.id} digest -",
    }


OTHERS = {
    REST_STOPPED_KEY: "1",
    LAST_EVENTS_KEY: "1",
    rest_share_key(): "1",
    rest_invalid_key(): "1",
    rest_share_key(UUID(int=0)): "1",
    route_key(GUILD): "1",
    channel_guild_key(GUILD): GUILD,
    gateway_session_key(1, 0, 1): "{}",
    "sandbox:gateway:seen:interaction:spoilt": "no id",
}


async def test_all_of_one_sandbox_goes_and_nothing_else(
    redis: Redis, new_sandbox: Callable[..., Sandbox]
) -> None:
    mine, other = new_sandbox(), new_sandbox()
    namespace = RedisNamespace(redis, traces=ClientTraces(redis))
    await redis.mset({**OTHERS, **traces_of(mine, 1), **traces_of(other, 2)})
    await redis.set(f"{redis_prefix(mine.id)}own", "1")
    assert await namespace.list_ids() == {str(mine.id), str(other.id)}
    await namespace.drop(mine)
    await namespace.drop(mine)
    assert set(await redis.keys()) == {*OTHERS, *traces_of(other, 2)}
    assert await namespace.list_ids() == {str(other.id)}


async def test_many_keys_go_too(redis: Redis, new_sandbox: Callable[..., Sandbox]) -> None:
    mine, other = new_sandbox(), new_sandbox()
    await redis.mset(
        {client_session_key(each.id, f"{number:x}"): "" for each in (mine, other) for number in range(3000)}
    )
    await redis.mset(
        {seen_token_key("interaction", f"{number}"): f"{mine.id} digest -" for number in range(3000)}
    )
    traces = ClientTraces(redis)
    await traces.drop(mine.id)
    assert await traces.ids() == {str(other.id)}
    assert await redis.dbsize() == 3000


@pytest.mark.parametrize(
    ("holder", "seconds_ago", "connected"),
    [(HOLDER, 0, True), (HOLDER, 60, True), (HOLDER, 200, False), (NO_HOLDER, 0, False)],
)
async def test_a_client_is_connected_while_it_is_heard_of(
    redis: Redis, sandbox: Sandbox, holder: str, seconds_ago: int, connected: bool
) -> None:
    for number in range(3):
        key = client_session_key(sandbox.id, f"{number:x}")
        await redis.set(key, f"{holder}{{}}", ex=KEPT_SECONDS - seconds_ago)
    expected = {str(sandbox.id): 3} if connected else {}
    assert await ClientTraces(redis).connected() == expected
    assert await ClientTraces(redis).connected(sandbox.id) == expected
    assert await ClientTraces(redis).connected(UUID(int=1)) == {}
