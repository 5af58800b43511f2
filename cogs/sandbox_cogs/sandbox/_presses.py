"""Handles pressed buttons and chosen options by their ids, also after a restart of the bot."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

import discord

from sandbox_cogs._acknowledge import acknowledged
from sandbox_cogs._core import AnyBot, core_of
from sandbox_cogs._correlation import correlated

from . import (
    _connect,
    _destroy,
    _diversion,
    _events,
    _extend,
    _list,
    _question,
    _register,
    _render,
    _reset,
    _status,
)
from ._access import check_may_use
from ._errors import report
from ._reply import answer_anew, answer_in_place

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

_SANDBOX = r"(?P<sandbox>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"

_TYPE = r"(?P<type>[A-Z_]{0,60})"


@dataclass(frozen=True, slots=True)
class Press:
    """One press. `arguments` comes from its id; `chosen` has the chosen values of a menu."""

    interaction: discord.Interaction[AnyBot]
    core: Core
    arguments: re.Match[str]
    chosen: tuple[str, ...]

    @property
    def sandbox_id(self) -> UUID:
        """The sandbox in the id."""
        return UUID(self.arguments["sandbox"])


async def _pressed_connect(press: Press) -> None:
    work = _connect.connect(press.core, press.interaction, str(press.sandbox_id))
    await answer_anew(press.interaction, press.core, work)


async def _pressed_register(press: Press) -> None:
    work = _register.register(press.core, press.interaction, str(press.sandbox_id), None)
    await answer_anew(press.interaction, press.core, work, changes=True)


async def _pressed_extend(press: Press) -> None:
    await _extend.open_form(press.interaction, press.sandbox_id)


async def _pressed_destroy(press: Press) -> None:
    work = _destroy.ask(press.core, press.interaction, str(press.sandbox_id))
    await answer_anew(press.interaction, press.core, work)


async def _pressed_refresh(press: Press) -> None:
    work = _status.refreshed(press.core, press.interaction, press.sandbox_id)
    await answer_in_place(press.interaction, press.core, work)


async def _pressed_unwatch(press: Press) -> None:
    work = _status.unwatched(press.core, press.interaction, press.sandbox_id)
    await answer_in_place(press.interaction, press.core, work)


async def _picked(press: Press) -> None:
    if not press.chosen:
        # Only a modified client sends the press of a menu without a choice.
        await acknowledged(press.interaction, press.interaction.response.defer)
        return
    watch = press.arguments["how"] == "watch"
    work = _status.status(press.core, press.interaction, press.chosen[0], watch=watch)
    await answer_in_place(press.interaction, press.core, work)


async def _picked_events(press: Press) -> None:
    if not press.chosen:
        await acknowledged(press.interaction, press.interaction.response.defer)
        return
    follow = press.arguments["how"] == "follow"
    work = _events.events(
        press.core, press.interaction, press.chosen[0], press.arguments["type"], follow=follow
    )
    await answer_in_place(press.interaction, press.core, work)


async def _picked_event(press: Press) -> None:
    if not press.chosen:
        await acknowledged(press.interaction, press.interaction.response.defer)
        return
    work = _events.one(press.core, press.interaction, press.sandbox_id, press.chosen[0])
    await answer_anew(press.interaction, press.core, work)


async def _pressed_events(press: Press) -> None:
    work = _events.refreshed(press.core, press.interaction, press.sandbox_id, press.arguments["type"])
    await answer_in_place(press.interaction, press.core, work)


async def _pressed_unfollow(press: Press) -> None:
    work = _events.unfollowed(press.core, press.interaction, press.sandbox_id, press.arguments["type"])
    await answer_in_place(press.interaction, press.core, work)


async def _pressed_json(press: Press) -> None:
    work = _events.as_file(press.core, press.interaction, press.sandbox_id)
    await answer_anew(press.interaction, press.core, work)


async def _pressed_replay(press: Press) -> None:
    one = press.arguments["event"]
    chosen = [] if one is None else [one]
    work = _events.replay(press.core, press.interaction, press.sandbox_id, chosen)
    await answer_anew(press.interaction, press.core, work, changes=True)


async def _turned(press: Press) -> None:
    filters = _list.Filters.from_match(press.arguments)
    work = _list.page_of(
        press.core, filters, int(press.arguments["page"]), viewer=str(press.interaction.user.id)
    )
    await answer_in_place(press.interaction, press.core, work)


async def _answered(press: Press) -> None:
    asked = press.arguments
    question = _QUESTIONS[asked["kind"]]
    await question.answered(
        press.interaction,
        press.core,
        choice=asked["choice"],
        caller_id=int(asked["caller"]),
        about=asked["about"],
    )


_QUESTIONS = {
    question.kind: question for question in (_destroy.ONE, _destroy.ALL, _diversion.QUESTION, _reset.RESET)
}

_HANDLERS: Mapping[str, tuple[re.Pattern[str], Callable[[Press], Awaitable[None]]]] = {
    verb: (re.compile(arguments), handler)
    for verb, arguments, handler in (
        ("connect", _SANDBOX, _pressed_connect),
        ("register", _SANDBOX, _pressed_register),
        ("extend", _SANDBOX, _pressed_extend),
        ("destroy", _SANDBOX, _pressed_destroy),
        ("refresh", _SANDBOX, _pressed_refresh),
        ("unwatch", _SANDBOX, _pressed_unwatch),
        ("pick", r"(?P<how>once|watch)", _picked),
        ("events", rf"{_SANDBOX}:{_TYPE}", _pressed_events),
        ("event", _SANDBOX, _picked_event),
        ("unfollow", rf"{_SANDBOX}:{_TYPE}", _pressed_unfollow),
        ("eventsjson", _SANDBOX, _pressed_json),
        ("replay", rf"{_SANDBOX}(?::(?P<event>\d{{1,17}}:\d{{1,18}}))?", _pressed_replay),
        ("pickevents", rf"(?P<how>once|follow):{_TYPE}", _picked_events),
        ("list", _list.ARGUMENTS, _turned),
        ("ask", rf"(?P<kind>{'|'.join(_QUESTIONS)}):{_question.ARGUMENTS}", _answered),
    )
}


class Pressed(
    discord.ui.DynamicItem[discord.ui.Item[Any]],
    template=r"sandbox:(?!owner:)(?P<verb>[^:]*):?(?P<arguments>.*)",
):
    """A pressed button or a used menu of ours."""

    _busy: ClassVar[set[tuple[int, int, str]]] = set()
    """Presses in progress, by message, person and button."""

    def __init__(self, item: discord.ui.Item[Any], verb: str, arguments: str) -> None:
        super().__init__(item)
        self._verb = verb
        self._arguments = arguments

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], item: discord.ui.Item[Any], match: re.Match[str]
    ) -> Self:
        """Build the item for a pressed component."""
        return cls(item, match["verb"], match["arguments"])

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Do the button's work. A second click during the work of the first does nothing."""
        try:
            core = core_of(interaction.client)
            if core.publishing.is_answered_elsewhere(interaction.guild_id):
                return
            # Log only our verbs: a client can send any text in the rest of an id.
            name = f"press {self._verb}" if self._verb in _HANDLERS else "press"
            with correlated(core, name, cause_id=interaction.id, user_id=interaction.user.id):
                await self._checked(interaction, core)
        except Exception as error:  # the outermost handler: every failure becomes an answer
            await report(interaction, error)

    async def _checked(self, interaction: discord.Interaction[AnyBot], core: Core) -> None:
        try:
            await check_may_use(interaction, core.settings)
            await self._handle(interaction, core)
        except Exception as error:  # the outermost handler: every failure becomes an answer
            await report(interaction, error)

    async def _handle(self, interaction: discord.Interaction[AnyBot], core: Core) -> None:
        pattern, handler = _HANDLERS.get(self._verb, (None, None))
        arguments = pattern.fullmatch(self._arguments) if pattern is not None else None
        if handler is None or arguments is None or interaction.message is None:
            send = partial(interaction.response.send_message, embed=_render.outdated(), ephemeral=True)
            await acknowledged(interaction, send)
            return
        press = (interaction.message.id, interaction.user.id, self.custom_id)
        if press in self._busy:
            await acknowledged(interaction, interaction.response.defer)
            return
        self._busy.add(press)
        try:
            chosen = tuple(self.item.values) if isinstance(self.item, discord.ui.Select) else ()
            await handler(Press(interaction, core, arguments, chosen))
        finally:
            self._busy.discard(press)
