"""`cleanup`, `orphans`, `audit`: remove leftovers, and show the history of a sandbox."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.cleanup import CleanupReport, OrphanCleanup, OrphanReport
from sandbox_core.errors import CleanupFailed, DependencyUnavailable
from sandbox_core.manager import utc_now
from sandbox_core.models import AuditEntry
from sandbox_core.words import counted

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from . import _views as views
from ._outcome import fail, run
from ._screen import Block, Line, busy, confirm, emit, must_be_answerable, show
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
    _end_with(failed, left.found, left)


async def _cleanup() -> tuple[CleanupReport, OrphanCleanup]:
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.cleanup.run()


def orphans(
    fix: Annotated[
        bool, typer.Option("--fix", help="Remove those of sandboxes that were destroyed; asks first.")
    ] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="With --fix: also those of sandboxes that this database never had. They may be another "
            "installation's on the same servers.",
        ),
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Show schemas, keys, messages and mappings that belong to no live sandbox."""
    if unknown and not fix:
        fail(["--unknown says what --fix removes; alone it does nothing."], ExitCode.USAGE)
    if fix:
        must_be_answerable(yes)
    with busy("Searching"):
        report = run(_find())
    done: OrphanCleanup | None = None
    removable = [orphan for orphan in report.orphans if unknown or orphan.known]
    if not as_json:
        show(*views.orphans(report))
    if fix and removable:
        confirm(f"Remove {counted(len(removable), 'orphan', 'orphans')}?", yes=yes)
        with busy("Removing"):
            done = run(_remove(unknown))
    if as_json:
        emit(json.orphans(report, done))
    elif done is not None:
        show(Line(f"Removed {counted(len(done.removed), 'orphan', 'orphans')}."))
    elif fix:
        show(_nothing_removed(report))
    _end_with([], report, done)


def _nothing_removed(report: OrphanReport) -> Block:
    if report.orphans:
        return Line("None of them is of a sandbox that this database knows; --unknown removes them too.")
    return Line("There was nothing to remove.")


def _end_with(failed: list[str], found: OrphanReport, done: OrphanCleanup | None) -> None:
    """End the command with an exit code for the failures, if there are any."""
    not_removed = done.failed if done is not None else {}
    failed += [f"{orphan.name} was not removed: {reason}" for orphan, reason in not_removed.items()]
    away = [f"{DependencyUnavailable.code}: {why} It was not searched." for why in found.unreadable.values()]
    if failed or away:
        fail([*failed, *away], ExitCode.DEPENDENCY if away else ExitCode.REFUSED)


async def _find() -> OrphanReport:
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.cleanup.find_orphaned_resources()


async def _remove(unknown: bool) -> OrphanCleanup:
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.cleanup.cleanup_orphaned_resources(
            unknown=unknown, actor=caller.actor(None, core.settings)
        )


def audit(
    name: options.Name,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: options.Json = False,
) -> None:
    """Show who changed what of a sandbox, oldest first; also of a destroyed one."""
    with busy("Reading"):
        entries = run(_audit(name, limit))
    if as_json:
        emit(json.audit(entries))
        return
    show(views.audit(entries))


async def _audit(name: str, limit: int) -> list[AuditEntry]:
    async with opened() as core:
        return await core.manager.audit(name, limit=limit)
