"""`SandboxManager`: create, find, register and unregister guilds, extend, destroy."""

from .ports import Extension, ManagerLimits, ManagerObserver, NoObserver, RouteChanges
from .service import SandboxManager, utc_now

__all__ = [
    "Extension",
    "ManagerLimits",
    "ManagerObserver",
    "NoObserver",
    "RouteChanges",
    "SandboxManager",
    "utc_now",
]
