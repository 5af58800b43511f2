"""Deciding and publishing events, with the bookkeeping of what is acknowledged."""

from .intake import GatewayIntake, ready_session
from .ledger import ShardLedger
from .router import EventRouter, Publisher, Routes

__all__ = ["EventRouter", "GatewayIntake", "Publisher", "Routes", "ShardLedger", "ready_session"]
