"""Refuses a new sandbox where too much is stored already."""

from __future__ import annotations

from sandbox_core.errors import StorageUsedUp
from sandbox_core.postgres import connected, storage

from .ports import Tools


async def refuse_full(tools: Tools, owner: str) -> None:
    """Raise `StorageUsedUp` when a sandbox of this owner is full, or all sandboxes together are."""
    limits = tools.limits.storage
    async with connected(tools.pool) as connection:
        full = await storage.full_of(connection, owner)
        sums = await storage.sums(connection) if any(each.all_bytes for each in limits.values()) else {}
    for name, stored in full:
        limit = limits.get(stored.store)
        if limit is None:
            continue
        of_keys = limit.items is not None and stored.items / limit.items > stored.bytes / limit.bytes
        used, most = (stored.items, limit.items or 0) if of_keys else (stored.bytes, limit.bytes)
        raise StorageUsedUp(stored.store, used, most, sandbox_name=name, of_keys=of_keys)
    for store, limit in limits.items():
        if limit.all_bytes is not None and (used := sums.get(store, 0)) >= limit.all_bytes:
            raise StorageUsedUp(store, used, limit.all_bytes)
