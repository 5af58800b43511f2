"""Keeps from the host what is not production's: the host's own code is production, too.

discord.py goes on parsing every frame, so that its caches are right in every server. What its parsers would
tell the host is caught on the way, frame by frame, and passed on when the router has decided that the frame
is production's, which mostly it has by then. Interactions are not even parsed before that, as their parser
calls the command tree and the views itself. What belongs to the connection (`on_ready`, `on_disconnect`) is
always the host's; what is handled here (`/sandbox`, our buttons, the owner's commands) reaches our own
listeners only.

A voice connection that the host has in a server is left to itself: it is a part of the connection.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import discord
import structlog

from sandbox_cogs._core import AnyBot
from sandbox_core.events import is_own_interaction

from . import _private
from ._news import Audience, News
from ._private import Dispatch, Parser
from ._replacement import Replacement

_log = structlog.get_logger("sandbox.gateway")

_RAW_RECEIVE, _RAW_SEND = "socket_raw_receive", "socket_raw_send"
_EVENT_TYPE = "socket_event_type"
_TOLD_LATER = frozenset({"guild_available", "guild_join"})
"""What a GUILD_CREATE becomes; discord.py may first wait for other guilds, or for the guild's members."""
_TOLD_AFTERWARDS = frozenset({"app_command_completion"})
"""What discord.py tells of an interaction when its command has run."""
_CHANGED_IN_PLACE = (discord.Message, discord.Member, discord.Role, discord.Thread, discord.abc.GuildChannel)
_OURS = __name__.partition(".")[0]

TakeRaw = Callable[[str], News | None]
JudgeGuild = Callable[[int, News], None]


class Shield:
    """Stands between discord.py and the host while it is installed.

    `take` is given each raw frame before it is parsed, and returns what will know who gets it: None for all.
    `judge` is given a guild whose GUILD_CREATE came before. Without `shielding` frames are only taken.
    """

    def __init__(self, bot: AnyBot, take: TakeRaw, judge: JudgeGuild, *, shielding: bool) -> None:
        self._bot = bot
        self._take = take
        self._judge = judge
        self._shielding = shielding
        self._debug_events_before = _private.has_debug_events(bot)
        self._installed = False
        self._replaced: list[Replacement] = []
        self._before: Dispatch = bot.dispatch
        self._ours: Dispatch = self._before
        self._heard = False
        """True when the frame that is about to be parsed was told to us before."""
        self._received: News | None = None
        """Its news."""
        self._parsed: News | None = None
        """The news of the frame that is being parsed."""
        self._created: dict[int, News] = {}
        """By guild: the news of its GUILD_CREATE, while discord.py has not told of the guild."""

    def install(self) -> None:
        """From now on frames are taken, and the host gets what is production's."""
        bot = self._bot
        self._installed = True
        self._before = bot.dispatch
        self._ours = self._catching(self._before)
        self._replaced = [Replacement(vars(bot), "dispatch", self._ours)]
        if self._shielding:
            state, parsers = _private.attributes_of_state(bot), _private.parsers_of(bot)
            self._replaced.append(Replacement(state, "dispatch", self._catching(state["dispatch"])))
            self._replaced += [
                Replacement(parsers, event, self._parsing(event, parser))
                for event, parser in list(parsers.items())
            ]
        _private.set_debug_events(bot, on=True)
        self._tap_sockets()

    def remove(self) -> None:
        """Leave the bot as it was found; what somebody put over ours stays, and ours passes everything on."""
        bot = self._bot
        self._installed = False
        for replacement in reversed(self._replaced):
            replacement.undo()
        for attributes in _private.keepers_of_dispatch(bot):
            # Of sockets that were made meanwhile.
            if attributes.get(_private.KEPT_DISPATCH) is self._ours:
                attributes[_private.KEPT_DISPATCH] = self._before
        if not self._debug_events_before:
            _private.set_debug_events(bot, on=False)
            for socket in _private.open_sockets(bot):
                _private.untap(socket)

    def _tap_sockets(self) -> None:
        """Have the sockets that were made before this was installed tell their frames to us."""
        for attributes in _private.keepers_of_dispatch(self._bot):
            if attributes.get(_private.KEPT_DISPATCH) is not self._ours:
                self._replaced.append(Replacement(attributes, _private.KEPT_DISPATCH, self._ours))
        for socket in _private.open_sockets(self._bot):
            _private.tap(socket)

    # What discord.py tells

    def _catching(self, before: Dispatch) -> Dispatch:
        def dispatch(event: str, /, *arguments: Any, **keywords: Any) -> None:
            if event == _RAW_RECEIVE and self._installed:
                self._heard, self._received = True, self._taken(*arguments)
            if event in {_RAW_RECEIVE, _RAW_SEND} and not self._debug_events_before:
                return
            news = self._news_of(event, arguments) if self._installed and self._shielding else None
            if news is None:
                before(event, *arguments, **keywords)
                return
            if not news.decided:
                arguments = tuple(map(_as_it_is_now, arguments))
            news.add(partial(self._deliver, before, event, arguments, keywords))

        return dispatch

    def _taken(self, text: str) -> News | None:
        try:
            return self._take(text)
        except Exception:
            # It would end the host's connection; and a frame that is not routed is only the host's.
            _log.exception("frame_not_taken")
            return None

    def _news_of(self, event: str, arguments: tuple[Any, ...]) -> News | None:
        """The frame that is told of, or None when the host is to be told whatever the routes are."""
        if self._parsed is not None:
            if event in _TOLD_LATER:
                self._created.pop(arguments[0].id, None)
            return self._parsed
        if event == _RAW_RECEIVE:
            return self._received
        if event == _EVENT_TYPE:
            received = self._received
            return received if received is not None and received.event == arguments[0] else None
        if event in _TOLD_LATER:
            return self._news_of_guild(arguments[0])
        if event in _TOLD_AFTERWARDS and _is_ours(arguments[0]):
            news = News("INTERACTION_CREATE")
            news.decide(Audience.OURS)
            return news
        return None

    def _news_of_guild(self, guild: discord.Guild) -> News:
        news = self._created.pop(guild.id, None)
        if news is None:
            news = News("GUILD_CREATE")
            self._judge(guild.id, news)
        return news

    def _deliver(
        self,
        before: Dispatch,
        event: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        audience: Audience,
    ) -> None:
        if audience is Audience.HOST:
            before(event, *arguments, **keywords)
        elif audience is Audience.OURS:
            for listener in self._bot.extra_events.get(f"on_{event}", ()):
                if listener.__module__.partition(".")[0] == _OURS:
                    _private.call_listener(self._bot, listener, f"on_{event}", *arguments)

    # What discord.py parses

    def _parsing(self, event: str, parser: Parser) -> Parser:
        def parse(data: Any) -> None:
            heard, news = self._heard, self._received
            self._heard, self._received = False, None
            if self._installed and not heard:
                # A socket that was being connected when this was installed has told us nothing yet.
                self._tap_sockets()
            if not self._installed or news is None or news.event != event:
                parser(data)
            elif event == "INTERACTION_CREATE":
                news.add(partial(self._parse_interaction, news, parser, data))
            else:
                self._parse(news, parser, data)

        return parse

    def _parse_interaction(self, news: News, parser: Parser, data: Any, audience: Audience) -> None:
        if audience is not Audience.NOBODY:
            self._parse(news, parser, data)

    def _parse(self, news: News, parser: Parser, data: Any) -> None:
        if news.event == "GUILD_CREATE":
            self._created[int(data["id"])] = news
        parsed, self._parsed = self._parsed, news
        try:
            parser(data)
        finally:
            self._parsed = parsed


def _as_it_is_now(told: Any) -> Any:
    """What later frames change in discord.py's cache must not show in what waits."""
    return copy.copy(told) if isinstance(told, _CHANGED_IN_PLACE) else told


def _is_ours(interaction: discord.Interaction[Any]) -> bool:
    data: Any = interaction.data or {}
    return is_own_interaction(interaction.type.value, data.get("name"), data.get("custom_id"))
