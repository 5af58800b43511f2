"""`events`: a sandbox's events, seen, repeated and made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import typer

from sandbox_core import tasks
from sandbox_core.bootstrap import NatsUse
from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.production import check_owner
from sandbox_core.workbench.filters import Filter
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.summary import Names
from sandbox_core.workbench.watching import Missed, follow, last_events, one_event

from .. import _streams
from ..exit_codes import ExitCode
from . import _caller as caller
from . import _choosing as choosing
from . import _event_views as views
from . import _options as options
from ._default_command import DefaultsToList
from ._emit import emit
from ._event_names import names_of
from ._exit import run, usage
from ._replay import replay
from ._screen import Line, busy, show
from ._screen import emit as emit_json
from ._session import opened

_MOST = 10_000
_CHECK_EVERY = 2.0
"""Seconds after which whoever follows is asked again whether they may."""

app = typer.Typer(
    cls=DefaultsToList,
    no_args_is_help=True,
    help="See, repeat and make the events of a sandbox. `events NAME` shows the last ones.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the events are, and the names in there."""

    place: StreamPlace
    names: Names
    check: Callable[[], Awaitable[None]]
    """Raises a `SandboxError` once the caller may not read them, or nothing comes any more."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How an event is written."""

    as_json: bool
    raw: bool

    def write(self, event: SeenEvent, names: Names) -> None:
        names.learn(event)
        if self.raw:
            _streams.write_bytes(event.frame + b"\n")
        elif self.as_json:
            emit_json(views.as_json(event, names), compact=True)
        else:
            show(views.line(event, names))


_Limit = Annotated[int, typer.Option("--limit", "-n", min=0, max=_MOST, help="The newest so many.")]
_Raw = Annotated[bool, typer.Option("--raw", help="Write the frames as Discord sent them, one a line.")]
_Lines = Annotated[bool, typer.Option("--json", help="Write one object a line.")]
_Number = Annotated[str | None, typer.Argument(metavar="ID", help="The event's number, from the list.")]


@app.command("list")
def list_(
    name: options.NameUnlessProduction = None,
    *,
    types: choosing.Types = None,
    guilds: choosing.Guilds = None,
    channels: choosing.Channels = None,
    users: choosing.Users = None,
    since: choosing.Since = "",
    grep: choosing.Grep = "",
    limit: _Limit = 20,
    following: options.Follow = False,
    production: options.Production = False,
    raw: _Raw = False,
    owner: options.Owner = None,
    as_json: _Lines = False,
) -> None:
    """Show the last events of a sandbox, and with --follow the live ones. Its workers lose none by that."""
    if raw and as_json:
        raise typer.BadParameter("either --raw or --json")
    form = _Form(as_json, raw)
    whose = _Whose(name, production, owner)
    chosen = choosing.Chosen(types, guilds, channels, users, since, grep)

    async def shown() -> int:
        wanted = chosen.filter()
        async with _source(whose) as source:
            if following:
                await _follow(source, wanted, limit, form)
            with busy("Reading"):
                events, _ = await last_events(source.place, wanted, limit)
            for event in events:
                form.write(event, source.names)
            return len(events)

    count = run(shown(), interrupted=ExitCode.DONE if following else ExitCode.INTERRUPTED)
    if not (count or following or raw or as_json):
        show(Line("There are no such events now."))


@app.command("show")
def show_(
    name: options.NameUnlessProduction = None,
    number: _Number = None,
    *,
    production: options.Production = False,
    raw: _Raw = False,
    owner: options.Owner = None,
    as_json: _Lines = False,
) -> None:
    """Show one event, with its headers and its frame."""
    if production and number is None:
        # With --production there is no name, so the only word is the number.
        name, number = None, name
    if number is None:
        raise typer.BadParameter("say which event: its number stands in front of it in the list")
    whose, wanted = _Whose(name, production, owner), number

    async def shown() -> None:
        async with _source(whose) as source:
            event = await one_event(source.place, wanted)
            source.names.learn(event)
            if raw or as_json:
                _Form(as_json, raw).write(event, source.names)
            else:
                show(*views.whole(event, source.names))

    run(shown())


app.command("emit")(emit)
app.command("replay")(replay)


@app.callback()
def _group() -> None:
    """See, repeat and make the events of a sandbox."""


@dataclass(frozen=True, slots=True)
class _Whose:
    name: str | None
    production: bool
    owner: str | None


@asynccontextmanager
async def _source(whose: _Whose) -> AsyncIterator[_Source]:
    if whose.production == (whose.name is not None):
        raise usage("Say whose: the sandbox's NAME, or --production.")
    async with opened(NatsUse.SANDBOXES) as core:
        actor = caller.actor(whose.owner, core.settings)
        if whose.name is None:

            async def check_production() -> None:
                check_owner(actor, "read the events of production")

            await check_production()
            place = await core.places.of(PRODUCTION, credentials=0)
            yield _Source(place, await names_of(core.settings, None), check_production)
            return

        async def checked(reference: str) -> Sandbox:
            sandbox = await core.manager.get(reference)
            core.manager.check_may_manage(actor, sandbox, "read the events of")
            core.manager.check_running(sandbox)
            return sandbox

        async def check() -> None:
            await checked(str(sandbox.id))

        sandbox = await checked(whose.name)
        place = await core.places.of(sandbox.id, credentials=sandbox.generation)
        yield _Source(place, await names_of(core.settings, sandbox.guild_ids), check)


async def _follow(source: _Source, wanted: Filter, limit: int, form: _Form) -> None:
    """Show events until that is interrupted. Raises as `source.check`."""
    following = asyncio.create_task(_show_all(source, wanted, limit, form), name="events-follow")
    checking = asyncio.create_task(_check_again(source), name="events-check")
    try:
        done, _ = await asyncio.wait({following, checking}, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        await tasks.end(following, checking)


async def _check_again(source: _Source) -> None:
    while True:
        await asyncio.sleep(_CHECK_EVERY)
        # An outage is waited out.
        with suppress(DependencyUnavailable):
            await source.check()


async def _show_all(source: _Source, wanted: Filter, limit: int, form: _Form) -> None:
    events, position = await last_events(source.place, wanted, limit) if limit else ([], None)
    for event in events:
        form.write(event, source.names)
    async for found in follow(source.place, position):
        if isinstance(found, Missed):
            # Also to a program: its output lacks them.
            count = "Events may have been" if found.events is None else f"{found.events} events or fewer were"
            typer.echo(f"{count} removed before they could be read.", err=True)
        elif wanted.takes(found):
            form.write(found, source.names)
        else:
            source.names.learn(found)
