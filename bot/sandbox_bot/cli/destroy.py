"""`destroy`: deletes sandboxes and everything in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.errors import SandboxError
from sandbox_core.manager import Changed, utc_now
from sandbox_core.models import Sandbox

from .._streams import write
from . import _caller as caller
from . import _json as json
from . import _options as options
from . import _views as views
from ._exit import exit_code, fail, run, usage
from ._screen import (
    busy,
    confirm,
    emit,
    must_be_answerable,
    note,
)
from ._session import opened
from ._unconfirmed import note_unconfirmed
from ._words import error_line


def destroy(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names or ids.", autocompletion=options.suggest_names),
    ] = None,
    owner: options.Owner = None,
    everything: Annotated[bool, typer.Option("--all", help="Every sandbox of --owner.")] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete sandboxes and everything in them; asks first."""
    must_be_answerable(yes)
    with busy("Looking them up"):
        sandboxes = run(_to_destroy(names or [], owner, everything))
    if sandboxes:
        told = [line for sandbox in sandboxes for line in views.deletion(sandbox)]
        question = f"Destroy {', '.join(sandbox.name for sandbox in sandboxes)}?"
        confirm(question, yes=yes, told=told)
        with busy("Destroying"):
            destroyed, failed = run(_destroy(sandboxes, owner))
    else:
        destroyed, failed = [], []
    now = utc_now()
    if as_json:
        emit(json.destroyed(destroyed, failed, now))
    elif destroyed:
        write("\n".join(f"{gone.sandbox.name} is destroyed." for gone in destroyed))
        note_unconfirmed(*destroyed)
    elif not failed:
        note("There was nothing to destroy.")
    if failed:
        fail([error_line(error) for _, error in failed], max(exit_code(error) for _, error in failed))


async def _to_destroy(names: Sequence[str], owner: str | None, everything: bool) -> list[Sandbox]:
    if everything == bool(names):
        raise usage("Name the sandboxes: one NAME or more, or --all with --owner.")
    async with opened() as core:
        if everything:
            if owner is None:
                raise usage("--all destroys one person's sandboxes: name the Discord user with --owner.")
            return await core.manager.list(owner=owner)
        found = {sandbox.id: sandbox for sandbox in [await core.manager.get(name) for name in names]}
        for sandbox in found.values():
            # Checked now and while destroying: a caller without the right gets no question.
            core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, "destroy")
        return list(found.values())


async def _destroy(
    sandboxes: Sequence[Sandbox], owner: str | None
) -> tuple[list[Changed], list[tuple[Sandbox, SandboxError]]]:
    destroyed: list[Changed] = []
    failed: list[tuple[Sandbox, SandboxError]] = []
    async with opened(NatsUse.SANDBOXES) as core:
        for sandbox in sandboxes:
            try:
                # By id: another sandbox may have the name since the question.
                destroyed.append(
                    await core.manager.destroy(caller.actor(owner, core.settings), str(sandbox.id))
                )
            except SandboxError as error:
                failed.append((sandbox, error))
    return destroyed, failed
