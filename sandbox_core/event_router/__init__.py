"""Deciding and publishing events, with the bookkeeping of what is acknowledged."""

from .activity import Activity
from .budget import BudgetLimits
from .intake import GatewayIntake, ShardIntake
from .lane import LaneState, Tell
from .last_events import DAY, LastEvent, LastEvents
from .ledger import ShardLedger
from .observed import ObservedPath, observers
from .route_questions import Routes
from .router import EventRouter

__all__ = [
    "DAY",
    "Activity",
    "BudgetLimits",
    "EventRouter",
    "GatewayIntake",
    "LaneState",
    "LastEvent",
    "LastEvents",
    "ObservedPath",
    "Routes",
    "ShardIntake",
    "ShardLedger",
    "Tell",
    "observers",
]
