"""`cleanup`: removes expired sandboxes and leftovers now."""

from __future__ import annotations

from sandbox_core.bootstrap import NatsUse
from sandbox_core.cleanup import CleanupReport, OrphanCleanup
from sandbox_core.errors import CleanupFailed
from sandbox_core.manager import utc_now
from sandbox_core.words import counted

from . import _json as json
from . import _options as options
from ._exit import run
from ._leftovers import end_with_failures
from ._screen import Line, busy, emit, show
from ._session import opened
from ._words import error_line


def cleanup(as_json: options.Json = False) -> None:
    """Remove expired sandboxes and orphans of destroyed ones now, as the bot does periodically."""
    with busy("Cleaning up"):
        expired, left = run(_cleanup())
    if as_json:
        emit(json.cleaned(expired, left, utc_now()))
    else:
        sandboxes = counted(len(expired.destroyed), "sandbox", "sandboxes")
        orphans = counted(len(left.removed), "orphan", "orphans")
        names = ", ".join(sandbox.name for sandbox in expired.destroyed)
        show(Line(f"Removed {sandboxes} and {orphans}{f': {names}' if names else ''}."))
    failed = [
        error_line(CleanupFailed(failure.sandbox.name, failure.step, failure.reason))
        for failure in expired.failed
    ]
    end_with_failures(failed, left.found, left)


async def _cleanup() -> tuple[CleanupReport, OrphanCleanup]:
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.cleanup.run()
