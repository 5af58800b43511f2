"""Measures the keys of all sandboxes, in one walk through the server's keys."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from redis.asyncio import Redis

from sandbox_core.redis.errors import translating
from sandbox_core.tasks import Cancellations

from .amounts import Amount, Pace
from .key_removal import scan

# `sandbox:route:…` and keys of others have no UUID here.
OWN_KEY = re.compile(r"sandbox:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):")
_SAMPLES = 10
"""How many elements of a hash, a list, … are looked at: the rest is taken to be as large on average."""


async def measure_keys(redis: Redis, sandbox_ids: Collection[UUID], pace: Pace) -> dict[UUID, Amount]:
    """Return what each of these sandboxes stores; `redis` decodes replies to text.

    A key may be counted twice when the server's table of keys changes its size meanwhile.
    """
    ours = {str(sandbox_id): sandbox_id for sandbox_id in sandbox_ids}
    keys: dict[UUID, int] = defaultdict(int)
    sizes: dict[UUID, int] = defaultdict(int)
    with translating():
        async for _, found in scan(redis, "sandbox:*", Cancellations()):
            owners = [
                (ours[match[1]], key) for key in found if (match := OWN_KEY.match(key)) and match[1] in ours
            ]
            if owners:
                async with redis.pipeline(transaction=False) as pipeline:
                    for _, key in owners:
                        pipeline.memory_usage(key, samples=_SAMPLES)
                    answers = await pipeline.execute()
                for (sandbox_id, _), size in zip(owners, answers, strict=True):
                    # None: it is gone meanwhile.
                    if size is not None:
                        keys[sandbox_id] += 1
                        sizes[sandbox_id] += int(size)
            await pace.rest()
    return {sandbox_id: Amount(sizes[sandbox_id], keys[sandbox_id]) for sandbox_id in sandbox_ids}
