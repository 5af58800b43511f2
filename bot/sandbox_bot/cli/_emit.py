"""`events emit`: makes an event in a sandbox."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.errors import SandboxError
from sandbox_core.events.table import guild_location
from sandbox_core.words import counted
from sandbox_core.workbench import fixtures
from sandbox_core.workbench.emitting import MOST_EVENTS, Emitter, Stored, guild_to_use
from sandbox_core.workbench.fixtures.changes import MOST_BYTES

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _options as options
from ._completion import suggest_names
from ._exit import exit_code, fail, run, usage
from ._guild_facts import guild_facts
from ._screen import Cell, Grid, Line, busy, show
from ._screen import emit as emit_json
from ._session import opened
from ._words import error_line

_STANDARD_INPUT = Path("-")


def _types(incomplete: str) -> list[str]:
    return [name for name in fixtures.names() if name.startswith(incomplete.upper())]


def emit(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="The sandbox's name, id or short id.", autocompletion=suggest_names
        ),
    ] = None,
    event_type: Annotated[
        str | None,
        typer.Argument(metavar="TYPE", help="The event, such as MESSAGE_CREATE.", autocompletion=_types),
    ] = None,
    *,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="d.KEY=VALUE", help="Change a value first, such as d.content=hello."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", help="Take the frame, or only its d, from a JSON file; - is stdin."
        ),
    ] = None,
    guild: Annotated[
        str | None,
        typer.Option("--guild", metavar="SERVER_ID", help="The server; by default the sandbox's first."),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option("--channel", metavar="CHANNEL_ID", help="The channel; by default a text channel."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=MOST_EVENTS, help="So many, one after the other.")
    ] = 1,
    listing: Annotated[bool, typer.Option("--list", help="Only list the types.")] = False,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Make an event in a sandbox, as if it came from Discord. Production gets nothing of it."""
    if listing:
        _list(as_json=as_json)
        return
    if name is None or event_type is None:
        fail(["Say which: emit takes a sandbox's NAME and a TYPE; --list shows the types."], ExitCode.USAGE)
    if file is not None and (guild is not None or channel is not None):
        fail(["--file says itself where the event happens: leave --guild and --channel out."], ExitCode.USAGE)
    wish = _Wish(name, event_type, changes or [], file, guild, channel, count, owner)
    done = _Done()
    with busy("Emitting"):
        run(_emit(wish, done))
    _end(done, wish, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Wish:
    """The arguments."""

    name: str
    event_type: str
    changes: list[str]
    file: Path | None
    guild: str | None
    channel: str | None
    count: int
    owner: str | None


@dataclass(slots=True)
class _Done:
    """What was done."""

    sandbox_name: str = ""
    stored: list[Stored] = field(default_factory=list)
    invented: str = ""
    """Why channels and people are not the server's own."""
    error: SandboxError | None = None
    """What hindered the rest."""


async def _emit(wish: _Wish, done: _Done) -> None:
    # What is wrong with the words is said before any server is asked.
    fixture = fixtures.load_emittable(wish.event_type)
    changes = [fixtures.parse_change(each) for each in wish.changes]
    given = None if wish.file is None else fixtures.read_frame(_read(wish.file), wish.event_type)
    async with opened(NatsUse.SANDBOXES) as core:
        emitter = Emitter(core.manager, core.writing, shard_count=core.settings.discord_shard_count or 1)
        sandbox = await emitter.sandbox(caller.actor(wish.owner, core.settings), wish.name)
        done.sandbox_name = sandbox.name
        if given is not None:
            data = partial(copy.deepcopy, given)
        else:
            guild_id = guild_to_use(sandbox, wish.guild)
            found, done.invented = await guild_facts(core.settings, sandbox, guild_id)
            scene = fixtures.Scene(found, channel_id=wish.channel)
            data = partial(fixtures.fill, fixture.data, scene, fixtures.Snowflakes())
        try:
            async for stored in emitter.emit(
                sandbox, wish.event_type, data, changes=changes, count=wish.count
            ):
                done.stored.append(stored)
        except SandboxError as error:
            if not done.stored:
                raise
            done.error = error


def _read(file: Path) -> bytes:
    try:
        if file == _STANDARD_INPUT:
            return sys.stdin.buffer.read(MOST_BYTES + 1)
        with file.open("rb") as opened_file:
            return opened_file.read(MOST_BYTES + 1)
    except OSError as error:
        raise usage(f"The file {file} can't be read: {error.strerror}.") from error


def _list(*, as_json: bool) -> None:
    found = [fixtures.load(name) for name in fixtures.names()]
    if as_json:
        emit_json(
            {
                "types": [
                    {
                        "event": each.type,
                        "about": each.about,
                        "guild_id_at": guild_location(each.type).value,
                        "emittable": each.emittable,
                    }
                    for each in found
                ]
            }
        )
        return
    not_possible = "Belongs to the connection: can't be emitted."
    show(
        Grid(
            ("type", "what happens"),
            [(Cell(each.type, "bold"), each.about if each.emittable else not_possible) for each in found],
        )
    )


def _end(done: _Done, wish: _Wish, *, as_json: bool) -> None:
    numbers = [stored.number for stored in done.stored]
    if as_json:
        emit_json(
            {
                "emitted": [
                    {
                        "id": str(stored.number),
                        "message_id": stored.event.message_id,
                        "event": stored.event.type,
                        "guild_id": stored.event.guild_id,
                        "bytes": len(stored.event.frame),
                    }
                    for stored in done.stored
                ],
                "invented": done.invented or None,
            }
        )
    else:
        which = (
            f"event {numbers[0]}"
            if len(numbers) == 1
            else f"{len(numbers)} events, {numbers[0]} to {numbers[-1]}"
        )
        show(Line(f"Emitted {wish.event_type} into {done.sandbox_name}: {which}."))
        if done.invented:
            show(Line(f"Its channels and people are invented. {done.invented}"))
    if done.error is not None:
        missing = counted(wish.count - len(numbers), "event was", "events were")
        fail([f"{missing} not emitted.", error_line(done.error)], exit_code(done.error))
