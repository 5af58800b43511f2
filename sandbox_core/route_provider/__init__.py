"""Guild to sandbox, in tiers: table, Redis, PostgreSQL, and the last table known."""

from .follower import RouteFollower
from .provider import RouteProvider

__all__ = ["RouteFollower", "RouteProvider"]
