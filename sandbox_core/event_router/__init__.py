"""Deciding and publishing events, with the bookkeeping of what is acknowledged."""

from .activity import Activity
from .channels import ChannelOwners
from .finder import ChannelDirectory, OwnerFinder
from .held import Routes
from .intake import GatewayIntake
from .last_events import DAY, LastEvent, LastEvents
from .ledger import ShardLedger
from .notebook import Notebook
from .router import EventRouter, Publisher
from .verdicts import Tell
from .watched import WatchedPath, watchers

__all__ = [
    "DAY",
    "Activity",
    "ChannelDirectory",
    "ChannelOwners",
    "EventRouter",
    "GatewayIntake",
    "LastEvent",
    "LastEvents",
    "Notebook",
    "OwnerFinder",
    "Publisher",
    "Routes",
    "ShardLedger",
    "Tell",
    "WatchedPath",
    "watchers",
]
