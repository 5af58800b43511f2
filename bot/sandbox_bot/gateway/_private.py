"""What this project touches in discord.py behind its public interface, all in one place.

Read in discord.py 2.7.1, `shard.py` and `state.py`: `AutoShardedClient` keeps its shards in the
name-mangled `__shards`, from which `shards`, `latency` and `get_shard` answer and whose values need `id`,
`ws` and `close()`; its connection state calls the client ready once it has begun to wait for the guilds of
as many shards as `shard_ids` names. `tests/gateway/test_private_names.py` fails when one of them is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

SHARDS = "_AutoShardedClient__shards"


def shards_of(client: Any) -> dict[int, Any]:
    """The client's shards by their number; changes to it are the client's."""
    return cast("dict[int, Any]", getattr(client, SHARDS))


def tell_shards(client: Any, shard_ids: Collection[int], shard_count: int) -> None:
    """These are the shards the client runs now, of so many; it is ready when they are, also with none."""
    state = client._connection
    client.shard_count = state.shard_count = shard_count
    state.shard_ids = sorted(shard_ids)
    if client.is_ready() or state._ready_task is not None:
        return
    if not shard_ids:
        state.call_handlers("ready")
        state.dispatch("ready")
    elif state._ready_tasks.keys() >= set(shard_ids):
        # A shard that it waited for has gone to another process.
        state._ready_task = asyncio.get_running_loop().create_task(state._delay_ready())
