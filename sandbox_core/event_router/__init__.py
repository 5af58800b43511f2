"""Deciding and publishing events, with the bookkeeping of what is acknowledged."""

from .activity import Activity
from .channels import ChannelOwners
from .intake import GatewayIntake, ready_session
from .ledger import ShardLedger
from .router import EventRouter, Publisher, Routes
from .watched import WatchedPath, watchers

__all__ = [
    "Activity",
    "ChannelOwners",
    "EventRouter",
    "GatewayIntake",
    "Publisher",
    "Routes",
    "ShardLedger",
    "WatchedPath",
    "ready_session",
    "watchers",
]
