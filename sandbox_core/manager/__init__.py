"""`SandboxManager`: create, find, register and unregister guilds, extend, destroy."""

from .logged import LoggedManager
from .ports import (
    Changed,
    Colleague,
    Extension,
    FaultPoint,
    ManagerLimits,
    ManagerObserver,
    NoObserver,
    Registration,
    RouteChanges,
    Sharing,
    no_fault,
)
from .rules import REGISTER
from .service import SandboxManager, utc_now
from .trials import trial_actor

__all__ = [
    "REGISTER",
    "Changed",
    "Colleague",
    "Extension",
    "FaultPoint",
    "LoggedManager",
    "ManagerLimits",
    "ManagerObserver",
    "NoObserver",
    "Registration",
    "RouteChanges",
    "SandboxManager",
    "Sharing",
    "no_fault",
    "trial_actor",
    "utc_now",
]
