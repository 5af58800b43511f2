"""`events replay`: sends stored events into a sandbox again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import typer

from sandbox_core.bootstrap import Core, NatsUse
from sandbox_core.errors import SandboxError
from sandbox_core.models import Actor, Sandbox
from sandbox_core.nats.dead_letters import REPLAYED
from sandbox_core.words import counted
from sandbox_core.workbench.emitting import Stored
from sandbox_core.workbench.filters import Filter
from sandbox_core.workbench.repeating import MOST_EVENTS, Replayer, Speed, check_number, fitting_guilds
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.watching import last_events, one_event

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _choosing as choosing
from . import _options as options
from ._completion import suggest_names
from ._editing import edited
from ._exit import exit_code, fail, run
from ._screen import Line, busy, note, show
from ._screen import emit as emit_json
from ._session import opened
from ._words import error_line


def replay(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The sandbox that has them.", autocompletion=suggest_names),
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="The events' numbers, from the list.")
    ] = None,
    *,
    recording: Annotated[
        str | None,
        typer.Option("--recording", metavar="AS", help="A recording in place of a sandbox; needs --to."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="NAME", help="Another sandbox to send them into.", autocompletion=suggest_names
        ),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            "--speed", metavar="1x|10x|max", help="With the gaps that they came with, or so much faster."
        ),
    ] = "1x",
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="New ids for messages and interactions, and times of now; what belongs together still does.",
        ),
    ] = False,
    edit: Annotated[
        bool, typer.Option("--edit", help="Change them in $EDITOR first; those taken out are not sent.")
    ] = False,
    as_guild: Annotated[
        str | None,
        typer.Option(
            "--as-guild",
            metavar="SERVER_ID",
            help="The server in which all of them are to happen. By default each server that the sandbox has "
            "not is one of its others, in their order.",
        ),
    ] = None,
    types: choosing.Types = None,
    guilds: choosing.Guilds = None,
    channels: choosing.Channels = None,
    users: choosing.Users = None,
    since: choosing.Since = "",
    grep: choosing.Grep = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=MOST_EVENTS, help="At most the newest so many.")
    ] = MOST_EVENTS,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Send stored events into a sandbox again, in their order, under new ids. Production gets none of it."""
    chosen = choosing.Chosen(types, guilds, channels, users, since, grep)
    _check_words(name, ids or [], recording, to, chosen)
    wish = _Wish(name or "", ids or [], recording, to, speed, fresh, as_guild, chosen, limit, owner)
    with busy("Reading"):
        events = run(_found(wish))
    if edit:
        events = run(_edited(events))
    done = _Done()
    try:
        with busy(f"Replaying {counted(len(events), 'event', 'events')}"):
            run(_replay(wish, events, done))
    except typer.Exit:
        if done.stored:
            note(f"{len(done.stored)} of {counted(len(events), 'event was', 'events were')} replayed.")
        raise
    _end(done, events, as_json=as_json)


def _check_words(
    name: str | None, ids: list[str], recording: str | None, to: str | None, chosen: choosing.Chosen
) -> None:
    if recording is not None:
        if name is not None or chosen.since:
            fail(["--recording has its own events: leave NAME, ID and --since out."], ExitCode.USAGE)
        if to is None:
            fail(["Say where to: --recording needs --to and a sandbox's name."], ExitCode.USAGE)
        return
    if name is None:
        fail(["Say which: the sandbox's NAME, and one ID or more, or --since."], ExitCode.USAGE)
    if bool(ids) == bool(chosen.since) or (ids and chosen.anything):
        fail(["Say which: one ID or more, or --since with what else chooses among events."], ExitCode.USAGE)


@dataclass(frozen=True, slots=True)
class _Wish:
    """The arguments."""

    name: str
    ids: list[str]
    recording: str | None
    to: str | None
    speed: str
    fresh: bool
    as_guild: str | None
    chosen: choosing.Chosen
    limit: int
    owner: str | None


@dataclass(slots=True)
class _Done:
    """What was done."""

    sandbox_name: str = ""
    stored: list[Stored] = field(default_factory=list)
    error: SandboxError | None = None
    """What hindered the rest."""


async def _found(wish: _Wish) -> list[SeenEvent]:
    # What is wrong with the words is said before any server is asked.
    Speed.parse(wish.speed)
    wanted = wish.chosen.filter()
    async with opened(NatsUse.SANDBOXES) as core:
        actor = caller.actor(wish.owner, core.settings)
        if wish.recording is not None:
            await _replayer(core).sandbox(actor, wish.to or "")
            return await _recorded(core, actor, wish, wanted)
        source = await core.manager.get(wish.name)
        core.manager.check_may_manage(actor, source, "read the events of")
        core.manager.check_running(source)
        # Before anything is read, or edited.
        await _replayer(core).sandbox(actor, wish.to or wish.name)
        place = await core.places.of(source.id, credentials=source.generation)
        if wish.ids:
            check_number(len(wish.ids))
            found = [await one_event(place, number) for number in dict.fromkeys(wish.ids)]
            return sorted(found, key=lambda each: each.id)
        # Whoever replays twice does not send the first repetitions again.
        own = replace(wanted, without_origin=REPLAYED)
        events, _ = await last_events(place, own, wish.limit + 1)
        if wish.limit == MOST_EVENTS:
            check_number(len(events))
        return events[-wish.limit :]


async def _recorded(core: Core, actor: Actor, wish: _Wish, wanted: Filter) -> list[SeenEvent]:
    library = core.recordings.library
    recording = await library.get(actor, wish.recording or "", "replay")
    events: deque[SeenEvent] = deque(maxlen=wish.limit)
    taken = 0
    async for event in library.events(recording):
        if wanted.takes(event):
            events.append(event)
            taken += 1
    if wish.limit == MOST_EVENTS:
        check_number(taken)
    return list(events)


async def _edited(events: Sequence[SeenEvent]) -> list[SeenEvent]:
    # Nothing else runs meanwhile: no connection is open.
    return edited(events)


def _replayer(core: Core) -> Replayer:
    return Replayer(core.manager, core.writing, shard_count=core.settings.discord_shard_count or 1)


async def _replay(wish: _Wish, events: Sequence[SeenEvent], done: _Done) -> None:
    async with opened(NatsUse.SANDBOXES) as core:
        replayer = _replayer(core)
        actor = caller.actor(wish.owner, core.settings)
        target = await replayer.sandbox(actor, wish.to or wish.name)
        await _send(replayer, actor, target, events, wish=wish, done=done)


async def _send(
    replayer: Replayer,
    actor: Actor,
    target: Sandbox,
    events: Sequence[SeenEvent],
    *,
    wish: _Wish,
    done: _Done,
) -> None:
    """Send the events, and note what is done."""
    done.sandbox_name = target.name
    own = all(event.headers.get("Sandbox-Id") == str(target.id) for event in events)
    guilds = fitting_guilds(events, target, wanted=wish.as_guild, elsewhere=not own)
    try:
        async for stored in replayer.replay(
            target, events, speed=Speed.parse(wish.speed), fresh=wish.fresh, guilds=guilds, actor=actor
        ):
            done.stored.append(stored)
    except SandboxError as error:
        if not done.stored:
            raise
        done.error = error


def _end(done: _Done, events: Sequence[SeenEvent], *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "replayed": [
                    {
                        "id": str(stored.number),
                        "from": str(event.id),
                        "message_id": stored.event.message_id,
                        "event": stored.event.type,
                        "guild_id": stored.event.guild_id,
                        "bytes": len(stored.event.frame),
                    }
                    for stored, event in zip(done.stored, events, strict=False)
                ]
            }
        )
    elif not done.stored:
        show(Line("There are no such events now, so nothing was replayed."))
    else:
        numbers = [stored.number for stored in done.stored]
        which = f"number {numbers[0]}" if len(numbers) == 1 else f"numbers {numbers[0]} to {numbers[-1]}"
        many = counted(len(numbers), "event", "events")
        show(Line(f"Replayed {many} into {done.sandbox_name}: {which}."))
    if done.error is not None:
        missing = counted(len(events) - len(done.stored), "event was", "events were")
        fail([f"{missing} not replayed.", error_line(done.error)], exit_code(done.error))
