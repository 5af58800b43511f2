"""Removes expired sandboxes, resumes interrupted removals, and removes resources without a sandbox."""

from .notices import Notice, NoticeKind, Notices
from .observer import CleanupMetrics, CleanupObserver
from .provider import AT_MOST, CLEANUP, CleanupProvider
from .results import CleanupReport, Damage, Orphan, OrphanCleanup, OrphanReport

__all__ = [
    "AT_MOST",
    "CLEANUP",
    "CleanupMetrics",
    "CleanupObserver",
    "CleanupProvider",
    "CleanupReport",
    "Damage",
    "Notice",
    "NoticeKind",
    "Notices",
    "Orphan",
    "OrphanCleanup",
    "OrphanReport",
]
