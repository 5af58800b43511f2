"""Which guild a channel belongs to: what this process learned from events, and what was looked up for it.

It attributes events that happen in a guild and carry no guild id: above all those of ephemeral messages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Set
from typing import Protocol

import msgspec
import structlog

from sandbox_core.events import DIRECT, Frame, Hints, Place
from sandbox_core.strangers import UNREADABLE

_log = structlog.get_logger("sandbox.router")

_INTERACTIONS_KEPT = 20_000
_LOOKED_UP_KEPT = 50_000


class _Channel(msgspec.Struct, gc=False):
    id: str = ""


class _Data(msgspec.Struct, gc=False):
    id: str = ""
    channel_id: str | None = None
    channels: list[_Channel] = []
    threads: list[_Channel] = []
    unavailable: bool = False


class _Payload(msgspec.Struct, gc=False):
    d: _Data


_payload = msgspec.json.Decoder(_Payload).decode

_TELLS_CHANNELS = frozenset({"GUILD_CREATE", "THREAD_LIST_SYNC"})
_TELLS_ITSELF = frozenset({"CHANNEL_CREATE", "THREAD_CREATE"})
_ENDS = frozenset({"CHANNEL_DELETE", "THREAD_DELETE"})
TEACHES = _TELLS_CHANNELS | _TELLS_ITSELF | _ENDS | {"GUILD_DELETE", "INTERACTION_CREATE"}
"""Events of a guild that say something about its channels."""


class Hears(Protocol):
    """Whoever tells other processes; see `ChannelSharing`."""

    def interaction(self, interaction_id: str, guild_id: str) -> None:
        """The interaction is of this guild."""

    def channels(self, guild_id: str, channel_ids: Iterable[str]) -> None:
        """Events told that these channels are the guild's."""

    def channel(self, channel_id: str, guild: str) -> None:
        """It was found out whose this channel is."""


class ChannelGuilds:
    """Guild ids by channel and by interaction. `DIRECT` stands for the guild of direct messages' channels."""

    def __init__(self) -> None:
        self._guild_of: dict[str, str] = {}
        self._channels_of: dict[str, set[str]] = {}
        self._interactions: OrderedDict[str, str] = OrderedDict()
        self._looked_up: OrderedDict[str, str] = OrderedDict()
        self.tells: Hears | None = None
        """Who is told what other processes may not know yet."""

    def __len__(self) -> int:
        return len(self._guild_of)

    def learn(self, frame: Frame) -> None:
        """Take from an event of a guild what it says about channels; other events teach nothing."""
        guild_id = frame.guild_id
        if guild_id is None or frame.type not in TEACHES:
            return
        try:
            data = _payload(frame.raw).d
        except UNREADABLE as error:
            _log.warning("channels_not_learned", type=frame.type, error=type(error).__name__)
            return
        if frame.type in _TELLS_CHANNELS:
            self._add(guild_id, (channel.id for channel in (*data.channels, *data.threads)))
        elif frame.type in _TELLS_ITSELF:
            self._add(guild_id, (data.id,))
        elif frame.type in _ENDS:
            self._guild_of.pop(data.id, None)
            self._channels_of.get(guild_id, set()).discard(data.id)
        elif frame.type == "GUILD_DELETE":
            # An outage makes a guild unavailable and leaves its channels what they are.
            if not data.unavailable:
                for channel_id in self._channels_of.pop(guild_id, set()):
                    self._guild_of.pop(channel_id, None)
        else:
            self._interactions[data.id] = guild_id
            if self.tells is not None:
                self.tells.interaction(data.id, guild_id)
            if data.channel_id is not None:
                self._add(guild_id, (data.channel_id,))
            if len(self._interactions) > _INTERACTIONS_KEPT:
                self._interactions.popitem(last=False)

    def of(self, hints: Hints | None) -> str | None:
        """The guild of a guild-less event, or None when nothing here says."""
        if hints is None:
            return None
        channel_id = hints.channel_id
        guild = None if channel_id is None else self._guild_of.get(channel_id)
        if guild is None and hints.interaction_id is not None:
            guild = self._interactions.get(hints.interaction_id)
        if guild is None and hints.place is Place.DIRECT:
            guild = DIRECT
            if channel_id is not None:
                self.found(channel_id, guild)
        if guild is None and channel_id is not None and channel_id in self._looked_up:
            guild = self._looked_up[channel_id]
            self._looked_up.move_to_end(channel_id)
        return guild

    def found(self, channel_id: str, guild: str, *, others_know: bool = False) -> None:
        """It was looked up whose the channel is, or an event said that it is one of direct messages."""
        known = self._looked_up.get(channel_id)
        self._looked_up[channel_id] = guild
        self._looked_up.move_to_end(channel_id)
        if len(self._looked_up) > _LOOKED_UP_KEPT:
            self._looked_up.popitem(last=False)
        if known != guild and not others_know and self.tells is not None:
            self.tells.channel(channel_id, guild)

    def by_guild(self) -> Iterable[tuple[str, Set[str]]]:
        """Every guild and its channels."""
        return self._channels_of.items()

    def _add(self, guild_id: str, channel_ids: Iterable[str]) -> None:
        known = self._channels_of.setdefault(guild_id, set())
        new = set(channel_ids) - known
        if new:
            known |= new
            self._guild_of.update(dict.fromkeys(new, guild_id))
            if self.tells is not None:
                self.tells.channels(guild_id, new)
