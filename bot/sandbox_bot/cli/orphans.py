"""`orphans`: shows what belongs to no live sandbox, and removes it if asked."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.cleanup import OrphanCleanup, OrphanReport
from sandbox_core.words import counted

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from . import _views as views
from ._exit import fail, run
from ._leftovers import end_with_failures
from ._screen import Block, Line, busy, confirm, emit, must_be_answerable, show
from ._session import opened


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
    end_with_failures([], report, done)


def _nothing_removed(report: OrphanReport) -> Block:
    if report.orphans:
        return Line("None of them is of a sandbox that this database knows; --unknown removes them too.")
    return Line("There was nothing to remove.")


async def _find() -> OrphanReport:
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.cleanup.find_orphaned_resources()


async def _remove(unknown: bool) -> OrphanCleanup:
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.cleanup.cleanup_orphaned_resources(
            unknown=unknown, actor=caller.actor(None, core.settings)
        )
