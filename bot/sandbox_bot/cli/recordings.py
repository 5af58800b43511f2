"""`recordings`: what was recorded, as a table, as a file, and removed."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.postgres.recordings import Recording
from sandbox_core.words import counted
from sandbox_core.workbench.recordings.lines import LONGEST
from sandbox_core.workbench.scrubbing import scrub_lines

from .. import _streams
from . import _caller as caller
from . import _options as options
from . import _recording_views as views
from ._exit import run, usage
from ._screen import Cell, Grid, Line, busy, confirm, emit, must_be_answerable, show
from ._session import opened

_Name = Annotated[str, typer.Argument(metavar="AS", help="The recording's name.")]
_STANDARD = Path("-")
_TYPES_SHOWN = 20

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, export, import and delete recordings; `record` makes them, `events replay` sends them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_(*, owner: options.OwnerFilter = None, as_json: options.Json = False) -> None:
    """List the recordings."""

    async def listed() -> list[Recording]:
        async with opened() as core:
            return await core.recordings.library.list(owner)

    recordings = run(listed())
    if as_json:
        emit({"recordings": [views.as_json(each) for each in recordings]})
    else:
        show(views.table(recordings) if recordings else Line("There are no recordings."))


@app.command("show")
def show_(name: _Name, *, owner: options.Owner = None, as_json: options.Json = False) -> None:
    """Show what a recording has: of which types, and for how long."""
    types: Counter[str] = Counter()
    ends: list[float] = []

    async def found() -> Recording:
        async with opened(NatsUse.SANDBOXES) as core:
            library = core.recordings.library
            recording = await library.get(caller.actor(owner, core.settings), name)
            async for event in library.events(recording):
                types[event.type] += 1
                ends[1:] = [event.stored_at.timestamp()]
            return recording

    with busy("Reading"):
        recording = run(found())
    seconds = ends[-1] - ends[0] if ends else None
    if as_json:
        types_json = dict(sorted(types.items()))
        emit({"recording": views.as_json(recording), "seconds": seconds, "types": types_json})
        return
    rows = [(Cell(kind, "bold cyan"), str(count)) for kind, count in types.most_common(_TYPES_SHOWN)]
    show(views.facts(recording, seconds), *([Grid(("type", "events"), rows)] if rows else []))
    if len(types) > _TYPES_SHOWN:
        show(Line(f"And {len(types) - _TYPES_SHOWN} more types."))


@app.command("export")
def export(
    name: _Name,
    *,
    file: Annotated[
        Path, typer.Option("--file", metavar="FILE", help="Where to write; by default standard output.")
    ] = _STANDARD,
    scrub: Annotated[
        bool,
        typer.Option("--scrub", help="With false people, names and contents, so that anybody may see it."),
    ] = False,
    owner: options.Owner = None,
) -> None:
    """Write a recording as lines of JSON: what it is, then its events."""

    async def read_into(spool: IO[bytes]) -> None:
        async with opened(NatsUse.SANDBOXES) as core:
            library = core.recordings.library
            recording = await library.get(caller.actor(owner, core.settings), name, "export")
            async for line in library.exported(recording):
                spool.write(line + b"\n")

    # First all of it: what fails half-way has written nothing. A recording may be larger than the memory.
    with tempfile.TemporaryFile() as spool:
        with busy("Reading"):
            run(read_into(spool))
        spool.seek(0)
        lines: Iterator[bytes] = (line.removesuffix(b"\n") for line in spool)
        if scrub:
            lines = scrub_lines(lines)
        if file == _STANDARD:
            for line in lines:
                _streams.write_bytes(line + b"\n")
            return
        with busy("Writing"):
            run(_written(file, lines))
    show(Line(f"Written to {file}."))


async def _written(file: Path, lines: Iterator[bytes]) -> None:
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as opened_file:
            opened_file.writelines(line + b"\n" for line in lines)
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise usage(f"The file {file} can't be written: {error.strerror}.") from error


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export has written; - is stdin.")],
    name: _Name,
    *,
    owner: options.NewOwner = None,
    as_json: options.Json = False,
) -> None:
    """Make a recording of a file that `export` has written."""

    async def made() -> Recording:
        if owner is None:
            raise usage("Say whose it is to be: --owner, a Discord user's id.")
        with _input(file) as opened_file:
            async with opened(NatsUse.SANDBOXES) as core:
                return await core.recordings.library.import_(owner, name, _lines(opened_file))

    with busy("Importing"):
        recording = run(made())
    if as_json:
        emit({"recording": views.as_json(recording)})
    else:
        show(Line(f"Imported {counted(recording.events, 'event', 'events')} as {recording.name}."))


def _input(file: Path) -> IO[bytes]:
    if file == _STANDARD:
        return sys.stdin.buffer
    try:
        return file.open("rb")
    except OSError as error:
        raise usage(f"The file {file} can't be read: {error.strerror}.") from error


def _lines(opened_file: IO[bytes]) -> Iterator[bytes]:
    try:
        while line := opened_file.readline(LONGEST):
            yield line.rstrip(b"\r\n")
    except OSError as error:
        raise usage(f"The file can't be read: {error.strerror}.") from error


@app.command("delete")
def delete(
    name: _Name, *, owner: options.Owner = None, yes: options.Yes = False, as_json: options.Json = False
) -> None:
    """Delete a recording for good; it asks first. If it is recorded now, that ends."""
    must_be_answerable(yes)

    async def found() -> Recording:
        async with opened() as core:
            return await core.recordings.library.get(caller.actor(owner, core.settings), name, "delete")

    async def deleted(recording: Recording) -> None:
        async with opened(NatsUse.SANDBOXES) as core:
            # As it is now: another person may have one of this name.
            present = await core.recordings.library.get(caller.actor(owner, core.settings), name, "delete")
            if present.id == recording.id:
                await core.recordings.library.delete(recording)

    recording = run(found())
    many = counted(recording.events, "event", "events")
    confirm(f"Delete the recording {recording.name} with {many} for good?", yes=yes)
    with busy("Deleting"):
        run(deleted(recording))
    if as_json:
        emit({"deleted": recording.name})
    else:
        show(Line(f"Deleted {recording.name}."))
