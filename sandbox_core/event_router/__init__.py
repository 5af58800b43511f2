"""Deciding and publishing events, with the bookkeeping of what is acknowledged."""

from .activity import Activity
from .intake import GatewayIntake, ShardIntake
from .lane import LaneState, Tell
from .last_events import DAY, LastEvent, LastEvents
from .ledger import ShardLedger
from .route_questions import Routes
from .router import EventRouter
from .watched import WatchedPath, watchers

__all__ = [
    "DAY",
    "Activity",
    "EventRouter",
    "GatewayIntake",
    "LaneState",
    "LastEvent",
    "LastEvents",
    "Routes",
    "ShardIntake",
    "ShardLedger",
    "Tell",
    "WatchedPath",
    "watchers",
]
