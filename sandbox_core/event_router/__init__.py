"""Deciding and publishing events, with the bookkeeping of what is acknowledged."""

from .ledger import ShardLedger
from .router import EventRouter, Publisher, Routes

__all__ = ["EventRouter", "Publisher", "Routes", "ShardLedger"]
