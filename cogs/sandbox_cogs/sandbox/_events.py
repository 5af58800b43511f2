"""Shows the last events of a sandbox, also kept up to date; one of them whole, and replays them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.error_text import explain
from sandbox_core.errors import DoesNotFit, NotPermitted, SandboxError, SandboxNotFound, SandboxNotRunning
from sandbox_core.models import Actor, Sandbox
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.subjects import is_guild_id
from sandbox_core.words import storable
from sandbox_core.workbench.filters import checked_filter
from sandbox_core.workbench.recent import Recent, events_by_number
from sandbox_core.workbench.repeating import AT_ONCE, Replayer
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.summary import Names

from . import _render_events as render
from ._access import actor_of
from ._buttons import event_buttons, events_below, events_buttons
from ._live import kept_up_to_date
from ._names import guild_names
from ._reply import Answer
from ._status import named_or_menu
from ._watch import watches_of

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]

READ_EVENTS = "read the events of"
_CHOSEN = re.compile(r"(\d{1,17}):(\d{1,18})\Z", re.ASCII)
_ENDS: tuple[type[SandboxError], ...] = (SandboxNotFound, SandboxNotRunning, NotPermitted)


async def events(
    core: Core, interaction: Interaction, reference: str | None, event_type: str | None, *, follow: bool
) -> Answer:
    """Show the last events of a sandbox, which is found as for `status`; with `follow` also those to come.

    Raises `DoesNotFit` for an unknown type, `NotPermitted`, `SandboxNotFound`, `SandboxNotRunning` and
    `SandboxNotNamed`.
    """
    event_type = (event_type or "").strip().upper()
    checked_filter(types=[event_type] if event_type else [])
    how = "follow" if follow else "once"
    found = await named_or_menu(core, interaction, reference, f"sandbox:pickevents:{how}:{event_type}")
    if isinstance(found, Answer):
        return found
    # By id from here on: another sandbox may get the same name later.
    viewer = await _Viewer.of(core, interaction, (await core.manager.get(found)).id, event_type)
    if not follow or watches_of(interaction.client).full:
        return await viewer.look(None, not_followed=follow)
    return await kept_up_to_date(core, interaction, viewer.look, viewer.buttons, ends=_ENDS)


async def refreshed(core: Core, interaction: Interaction, sandbox_id: UUID, event_type: str) -> Answer:
    """Show the events again; the buttons stay when a later press may help."""
    message = interaction.message
    until = watches_of(interaction.client).ends_at(message.id) if message is not None else None
    viewer = await _Viewer.of(core, interaction, sandbox_id, event_type)
    return await viewer.look(until)


async def unfollowed(core: Core, interaction: Interaction, sandbox_id: UUID, event_type: str) -> Answer:
    """Stop the live updates, and show the events a last time."""
    if interaction.message is not None:
        watches_of(interaction.client).stop(interaction.message.id)
    viewer = await _Viewer.of(core, interaction, sandbox_id, event_type)
    return await viewer.look(None, ended=True)


async def one(core: Core, interaction: Interaction, sandbox_id: UUID, chosen: str) -> Answer:
    """Show one event whole. Raises `DoesNotFit` when it has gone."""
    viewer = await _Viewer.of(core, interaction, sandbox_id)
    (event,) = await viewer.chosen([chosen])
    embed, file = render.one(event, await viewer.found([event]))
    return Answer(embed, event_buttons(sandbox_id, chosen), file)


async def as_file(core: Core, interaction: Interaction, sandbox_id: UUID) -> Answer:
    """Return the events that the pressed message shows as a file. Raises `DoesNotFit` when one has gone."""
    viewer = await _Viewer.of(core, interaction, sandbox_id)
    found = await viewer.chosen(events_below(interaction.message))
    embed, file = render.as_file(await viewer.found(found))
    return Answer(embed, file=file)


async def replay(core: Core, interaction: Interaction, sandbox_id: UUID, chosen: Sequence[str]) -> Answer:
    """Replay these events, or without any those that the pressed message shows, into their sandbox.

    Raises `NotPermitted`, and as `Replayer.replay` when none of them is stored.
    """
    viewer = await _Viewer.of(core, interaction, sandbox_id)
    replayer = Replayer(core.manager, core.writing, shard_count=core.settings.discord_shard_count or 1)
    sandbox = await replayer.sandbox(viewer.actor, str(sandbox_id))
    found = await viewer.chosen(chosen or events_below(interaction.message))
    stored: list[int] = []
    try:
        async for each in replayer.replay(sandbox, found, speed=AT_ONCE, actor=viewer.actor):
            stored.append(each.number)  # noqa: PERF401 (what is stored is told, also when it then ends)
    except SandboxError as error:
        if not stored:
            raise
        return Answer(render.replayed(sandbox, stored, len(found), explain(error).sentence))
    return Answer(render.replayed(sandbox, stored, len(found)))


class _Viewer:
    """One person who looks at one sandbox's events. Whether they may is asked at each look."""

    def __init__(
        self, core: Core, interaction: Interaction, actor: Actor, sandbox_id: UUID, event_type: str
    ) -> None:
        self._core = core
        self._interaction = interaction
        self.actor = actor
        self._sandbox_id = sandbox_id
        self._type = event_type
        self._recent: Recent | None = None

    @classmethod
    async def of(
        cls, core: Core, interaction: Interaction, sandbox_id: UUID, event_type: str = ""
    ) -> _Viewer:
        return cls(core, interaction, await actor_of(interaction, core.settings), sandbox_id, event_type)

    async def look(
        self, until: datetime | None, *, ended: bool | None = None, not_followed: bool = False
    ) -> Answer:
        """Return the newest events now. Those after the first look are the continuation of it."""
        sandbox, place = await self._place()
        # A look without an end after those that had one is the last.
        ended = self._recent is not None and until is None if ended is None else ended
        if self._recent is None:
            wanted = checked_filter(types=[self._type] if self._type else [])
            self._recent = Recent(place, wanted, render.SHOWN)
        recent = self._recent
        await recent.look()
        found = await self._found(sandbox, recent.events)
        found = replace(found, event_type=self._type, missed=recent.missed, remade=recent.remade)
        embed = render.listing(found, until=until, ended=ended, not_followed=not_followed)
        return Answer(embed, self.buttons(until is not None, render.options(found, recent.birth)))

    def buttons(self, live: bool, options: list[discord.SelectOption] | None = None) -> discord.ui.View:
        """What is below a message that is kept up to date, or is not."""
        return events_buttons(self._sandbox_id, live=live, options=options, event_type=self._type)

    async def chosen(self, values: Sequence[str]) -> list[SeenEvent]:
        """Return the events that these values name. Raises `DoesNotFit`."""
        _, place = await self._place()
        numbers: list[int] = []
        births: set[int] = set()
        for value in values:
            if match := _CHOSEN.match(value):
                births.add(int(match[1]))
                numbers.append(int(match[2]))
        if len(births) != 1:
            raise DoesNotFit("The choice", "it names no events", "`/sandbox events` shows those there are.")
        return await events_by_number(place, births.pop(), numbers)

    async def found(self, events: Sequence[SeenEvent]) -> render.Look:
        """Return these events, and the names in them."""
        sandbox, _ = await self._place()
        return await self._found(sandbox, events)

    async def _place(self) -> tuple[Sandbox, StreamPlace]:
        core = self._core
        sandbox = await core.manager.get(str(self._sandbox_id))
        core.manager.check_may_manage(self.actor, sandbox, READ_EVENTS)
        core.manager.check_running(sandbox)
        return sandbox, await core.places.of(sandbox.id, credentials=sandbox.generation)

    async def _found(self, sandbox: Sandbox, events: Sequence[SeenEvent]) -> render.Look:
        names = Names(guilds=await guild_names(self._interaction, sandbox, self._core.settings))
        for event in events:
            names.learn(event)
            if name := _channel_name(self._interaction.client, event):
                names.channels[str(event.channel_id)] = name
        here = None if self._interaction.guild_id is None else str(self._interaction.guild_id)
        return render.Look(sandbox, events, names, here)


def _channel_name(bot: AnyBot, event: SeenEvent) -> str:
    # A frame may have been made by anybody who may make one.
    if not (is_guild_id(event.guild_id or "") and is_guild_id(event.channel_id or "")):
        return ""
    guild = bot.get_guild(int(event.guild_id or 0))
    channel = None if guild is None else guild.get_channel_or_thread(int(event.channel_id or 0))
    return "" if channel is None else storable(channel.name)
