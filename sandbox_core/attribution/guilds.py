"""Which guild a channel belongs to, learned from the gateway's own events.

It attributes events that happen in a guild and carry no guild id: above all those of ephemeral messages.
Only what this process's shards told is known here; `OwnerFinder` asks beyond.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Set

import msgspec
import structlog

from sandbox_core.events import Frame

_log = structlog.get_logger("sandbox.router")

_INTERACTIONS_KEPT = 20_000


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


class ChannelOwners:
    """Channel and interaction ids to guild ids."""

    def __init__(self) -> None:
        self._guild_of: dict[str, str] = {}
        self._channels_of: dict[str, set[str]] = {}
        self._interactions: OrderedDict[str, str] = OrderedDict()
        self.on_interaction: Callable[[str, str], None] = _nobody
        """Told each interaction's id and guild."""
        self.on_channels: Callable[[str, Set[str]], None] = _nobody
        """Told a guild and channels of it, whenever an event tells of some."""

    def __len__(self) -> int:
        return len(self._guild_of)

    def learn(self, frame: Frame) -> None:
        """Take from an event of a guild what it says about channels; other events teach nothing."""
        guild_id = frame.guild_id
        if guild_id is None or frame.type not in TEACHES:
            return
        try:
            data = _payload(frame.raw).d
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
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
            self.on_interaction(data.id, guild_id)
            if data.channel_id is not None:
                self._add(guild_id, (data.channel_id,))
            if len(self._interactions) > _INTERACTIONS_KEPT:
                self._interactions.popitem(last=False)

    def owner(self, frame: Frame) -> str | None:
        """The guild that a guild-less event belongs to, or None when nothing says."""
        hints = frame.hints
        if hints is None:
            return None
        if hints.channel_id is not None:
            guild_id = self._guild_of.get(hints.channel_id)
            if guild_id is not None:
                return guild_id
        return None if hints.interaction_id is None else self._interactions.get(hints.interaction_id)

    def by_guild(self) -> Iterable[tuple[str, Set[str]]]:
        """Every guild and its channels."""
        return self._channels_of.items()

    def _add(self, guild_id: str, channel_ids: Iterable[str]) -> None:
        known = self._channels_of.setdefault(guild_id, set())
        new = set(channel_ids) - known
        if new:
            known |= new
            self._guild_of.update(dict.fromkeys(new, guild_id))
            self.on_channels(guild_id, new)


def _nobody(_first: str, _second: object) -> None:
    """No other process is told."""
