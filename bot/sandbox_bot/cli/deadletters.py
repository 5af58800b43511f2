"""`deadletters`: the events that a sandbox's worker could not handle."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from sandbox_core.bootstrap import Core, NatsUse
from sandbox_core.errors import SandboxError
from sandbox_core.manager import utc_now
from sandbox_core.models import Sandbox
from sandbox_core.nats.dead_letters import DeadLetter
from sandbox_core.words import counted

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _dead_letter_views as views
from . import _options as options
from ._exit import exit_code, fail, run
from ._screen import Line, busy, confirm, emit, must_be_answerable, note, show
from ._session import opened
from ._words import error_line

_MOST = 10_000


class Action(StrEnum):
    """What is done with the dead letters."""

    LIST = "list"
    SHOW = "show"
    REPLAY = "replay"
    DROP = "drop"


def deadletters(
    name: options.Name,
    action: Annotated[
        Action, typer.Argument(metavar="[list|show|replay|drop]", help="What to do; by default list.")
    ] = Action.LIST,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The dead letters' ids, from the list.")
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="With replay or drop: every dead letter.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=_MOST, help="With list: the oldest so many.")
    ] = 50,
    owner: options.Owner = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Show, repeat or remove the events that a sandbox's worker could not handle; drop asks first."""
    wanted = ids or []
    match action:
        case Action.LIST:
            _check(not wanted and not everything, "list takes no ID and no --all.")
            _list(name, owner, limit, as_json=as_json)
        case Action.SHOW:
            _check(len(wanted) == 1 and not everything, "Say which: show takes one ID.")
            _show(name, owner, wanted[0], as_json=as_json)
        case Action.REPLAY:
            _check(bool(wanted) != everything, "Say which: one ID or more, or --all.")
            with busy("Replaying"):
                done, failed = run(_replay(name, owner, wanted))
            _end(done, failed, "replayed", as_json=as_json)
        case Action.DROP:
            _check(bool(wanted) != everything, "Say which: one ID or more, or --all.")
            _drop(name, owner, wanted, yes=yes, as_json=as_json)


def _check(right: bool, sentence: str) -> None:
    if not right:
        fail([sentence], ExitCode.USAGE)


def _list(name: str, owner: str | None, limit: int, *, as_json: bool) -> None:
    with busy("Reading"):
        letters, total = run(_read(name, owner, limit))
    if as_json:
        emit(views.listing_json(letters, total))
        return
    show(views.listing(letters, utc_now()) if letters else Line("There are no dead letters."))
    if total > len(letters):
        note(f"{total - len(letters)} more: --limit {min(total, _MOST)} shows them.")


def _show(name: str, owner: str | None, number: str, *, as_json: bool) -> None:
    with busy("Reading"):
        (letter,) = run(_chosen(name, owner, [number]))
    if as_json:
        emit({"letter": views.letter_json(letter, whole=True)})
        return
    show(*views.letter(letter, utc_now()))


def _drop(name: str, owner: str | None, ids: Sequence[str], *, yes: bool, as_json: bool) -> None:
    must_be_answerable(yes)
    with busy("Reading"):
        letters = run(_chosen(name, owner, ids))
    if letters:
        many = counted(len(letters), "dead letter", "dead letters")
        confirm(f"Remove {many} for good?", yes=yes)
    with busy("Removing"):
        # By their ids: what came since the question stays.
        done, failed = run(_remove(name, owner, letters))
    _end(done, failed, "dropped", as_json=as_json)


_Failed = list[tuple[str, SandboxError]]


def _end(done: Sequence[str], failed: _Failed, what: str, *, as_json: bool) -> None:
    if as_json:
        emit(views.outcome_json(what, done, failed))
    else:
        show(Line(f"{what.capitalize()}: {counted(len(done), 'dead letter', 'dead letters')}."))
    if failed:
        fail(
            [f"{number}: {error_line(error)}" for number, error in failed],
            max(exit_code(error) for _, error in failed),
        )


async def _sandbox(core: Core, name: str, owner: str | None, doing: str) -> Sandbox:
    sandbox = await core.manager.get(name)
    core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, doing)
    return sandbox


async def _read(name: str, owner: str | None, limit: int) -> tuple[list[DeadLetter], int]:
    async with opened(NatsUse.SANDBOXES) as core:
        sandbox = await _sandbox(core, name, owner, "read dead letters of")
        letters = await core.dead_letters.list(sandbox.id, limit=limit)
        total = (await core.dead_letters.counts()).get(str(sandbox.id), 0)
        return letters, max(total, len(letters))


async def _chosen(name: str, owner: str | None, ids: Sequence[str]) -> list[DeadLetter]:
    async with opened(NatsUse.SANDBOXES) as core:
        sandbox = await _sandbox(core, name, owner, "read dead letters of")
        return await _letters(core, sandbox, ids)


async def _letters(core: Core, sandbox: Sandbox, ids: Sequence[str]) -> list[DeadLetter]:
    """Return these letters, or without ids all of them."""
    if not ids:
        return await core.dead_letters.list(sandbox.id, limit=_MOST)
    return [await core.dead_letters.get(sandbox.id, number) for number in dict.fromkeys(ids)]


async def _replay(name: str, owner: str | None, ids: Sequence[str]) -> tuple[list[str], _Failed]:
    done: list[str] = []
    failed: _Failed = []
    async with opened(NatsUse.SANDBOXES) as core:
        sandbox = await _sandbox(core, name, owner, "replay dead letters of")
        core.manager.check_running(sandbox)
        for letter in await _letters(core, sandbox, ids):
            try:
                await core.dead_letters.replay(letter)
                done.append(str(letter.id))
            except SandboxError as error:
                failed.append((str(letter.id), error))
    return done, failed


async def _remove(name: str, owner: str | None, letters: Sequence[DeadLetter]) -> tuple[list[str], _Failed]:
    done: list[str] = []
    failed: _Failed = []
    async with opened(NatsUse.SANDBOXES) as core:
        await _sandbox(core, name, owner, "drop dead letters of")
        for letter in letters:
            try:
                await core.dead_letters.drop(letter)
                done.append(str(letter.id))
            except SandboxError as error:
                failed.append((str(letter.id), error))
    return done, failed
