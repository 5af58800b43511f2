"""Hides events that do not go to production from the host: its own code is production, too.

discord.py still parses every frame, so its caches are right for every guild. The shield intercepts the
dispatches of the parsers, frame by frame. It passes them on when the router has decided that the frame goes
to production; usually that is decided already. An interaction is parsed only after the decision, because
its parser calls the command tree and the views directly. Connection events (`on_ready`, `on_disconnect`)
always reach the host. Events that are handled here (`/sandbox`, our buttons, the owner's commands) reach our
own listeners only.

The shield does not touch a voice connection of the host: it belongs to the connection.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import discord
import structlog

from sandbox_cogs._core import AnyBot
from sandbox_core.events import is_own_interaction, shallow

from . import _private
from ._deliveries import Audience, Deliveries
from ._private import Dispatch, Parser
from ._replacement import Replacement

_log = structlog.get_logger("sandbox.gateway")

_RAW_RECEIVE, _RAW_SEND = "socket_raw_receive", "socket_raw_send"
_EVENT_TYPE = "socket_event_type"
_TOLD_LATER = frozenset({"guild_available", "guild_join"})
"""discord.py's dispatches for GUILD_CREATE. It may first wait for other guilds or the guild's members."""
_TOLD_AFTERWARDS = frozenset({"app_command_completion"})
"""discord.py's dispatches for an interaction after its command has run."""
_CHANGED_IN_PLACE = (discord.Message, discord.Member, discord.Role, discord.Thread, discord.abc.GuildChannel)
_OURS = __name__.partition(".")[0]

TakeRaw = Callable[[str], Deliveries | None]
JudgeGuild = Callable[[int, Deliveries], None]


class Shield:
    """Filters discord.py's dispatches to the host while it is installed.

    `take` gets each raw frame before discord.py parses it, and returns its deliveries, or None when the host
    gets them in any case. `judge` gets a guild whose GUILD_CREATE came before the installation. Without
    `shielding` the shield only calls `take`.
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
        """True when `take` has seen the next frame that discord.py parses."""
        self._received: Deliveries | None = None
        """The deliveries of that frame."""
        self._parsed: Deliveries | None = None
        """The deliveries of the frame that is being parsed."""
        self._created: dict[int, Deliveries] = {}
        """By guild: the deliveries of its GUILD_CREATE, until discord.py has dispatched the guild."""

    def install(self) -> None:
        """Start to take frames; from now on the host gets only events of production."""
        bot = self._bot
        self._installed = True
        self._before = bot.dispatch
        self._ours = self._catching(self._before)
        library = _private.json_library()
        self._replaced = [
            Replacement(vars(bot), "dispatch", self._ours),
            Replacement(library, _private.FROM_JSON, _reading_deep(library[_private.FROM_JSON])),
        ]
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
        """Restore the bot. A replacement by other code stays, and below it ours passes everything on."""
        bot = self._bot
        self._installed = False
        for replacement in reversed(self._replaced):
            replacement.undo()
        for attributes in _private.keepers_of_dispatch(bot):
            # Sockets that were created after the installation have a copy, too.
            if attributes.get(_private.KEPT_DISPATCH) is self._ours:
                attributes[_private.KEPT_DISPATCH] = self._before
        if not self._debug_events_before:
            _private.set_debug_events(bot, on=False)
            for socket in _private.open_sockets(bot):
                _private.untap(socket)

    def _tap_sockets(self) -> None:
        """Tap the sockets that were created before the installation."""
        for attributes in _private.keepers_of_dispatch(self._bot):
            if attributes.get(_private.KEPT_DISPATCH) is not self._ours:
                self._replaced.append(Replacement(attributes, _private.KEPT_DISPATCH, self._ours))
        for socket in _private.open_sockets(self._bot):
            _private.tap(socket)

    # discord.py's dispatches

    def _catching(self, before: Dispatch) -> Dispatch:
        def dispatch(event: str, /, *arguments: Any, **keywords: Any) -> None:
            if event == _RAW_RECEIVE and self._installed:
                self._heard, self._received = True, self._taken(*arguments)
            if event in {_RAW_RECEIVE, _RAW_SEND} and not self._debug_events_before:
                return
            deliveries = (
                self._deliveries_of(event, arguments) if self._installed and self._shielding else None
            )
            if deliveries is None:
                before(event, *arguments, **keywords)
                return
            if not deliveries.decided:
                arguments = tuple(map(_as_it_is_now, arguments))
            deliveries.add(partial(self._deliver, before, event, arguments, keywords))

        return dispatch

    def _taken(self, text: str) -> Deliveries | None:
        try:
            return self._take(text)
        except Exception:
            # An exception would end the host's connection. A frame that is not routed goes to the host only.
            _log.exception("frame_not_routed")
            return None

    def _deliveries_of(self, event: str, arguments: tuple[Any, ...]) -> Deliveries | None:
        """Return the deliveries that a dispatch belongs to; None when the host gets it in any case."""
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
            return self._deliveries_of_guild(arguments[0])
        if event in _TOLD_AFTERWARDS and _is_ours(arguments[0]):
            deliveries = Deliveries("INTERACTION_CREATE")
            deliveries.decide(Audience.OURS)
            return deliveries
        return None

    def _deliveries_of_guild(self, guild: discord.Guild) -> Deliveries:
        deliveries = self._created.pop(guild.id, None)
        if deliveries is None:
            deliveries = Deliveries("GUILD_CREATE")
            self._judge(guild.id, deliveries)
        return deliveries

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

    # discord.py's parsers

    def _parsing(self, event: str, parser: Parser) -> Parser:
        def parse(data: Any) -> None:
            heard, deliveries = self._heard, self._received
            self._heard, self._received = False, None
            if self._installed and not heard:
                # A socket that was connecting during the installation is not tapped yet.
                self._tap_sockets()
            if not self._installed or deliveries is None or deliveries.event != event:
                parser(data)
            elif event == "INTERACTION_CREATE":
                deliveries.add(partial(self._parse_interaction, deliveries, parser, data))
            else:
                self._parse(deliveries, parser, data)

        return parse

    def _parse_interaction(
        self, deliveries: Deliveries, parser: Parser, data: Any, audience: Audience
    ) -> None:
        if audience is not Audience.NOBODY:
            self._parse(deliveries, parser, data)

    def _parse(self, deliveries: Deliveries, parser: Parser, data: Any) -> None:
        if deliveries.event == "GUILD_CREATE":
            self._created[int(data["id"])] = deliveries
        parsed, self._parsed = self._parsed, deliveries
        try:
            parser(data)
        finally:
            self._parsed = parsed


def _reading_deep(before: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Parse also what is nested too deep, without its deepest values: it would end the host's connection."""

    def from_json(text: Any) -> Any:
        try:
            return before(text)
        # The second is orjson's.
        except (RecursionError, ValueError):
            raw = text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)
            less = shallow(raw)
            if less == raw:
                raise
            return before(less.decode(errors="replace"))

    return from_json


def _as_it_is_now(told: Any) -> Any:
    """Copy an object of discord.py's cache: later frames change it while the delivery waits."""
    return copy.copy(told) if isinstance(told, _CHANGED_IN_PLACE) else told


def _is_ours(interaction: discord.Interaction[Any]) -> bool:
    data: Any = interaction.data or {}
    return is_own_interaction(interaction.type.value, data.get("name"), data.get("custom_id"))
