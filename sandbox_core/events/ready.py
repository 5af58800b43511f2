"""What a READY frame tells of the session that begins with it."""

from __future__ import annotations

import msgspec

from sandbox_core.strangers import UNREADABLE

from .frame import Frame
from .shallow import shallow


class _Guild(msgspec.Struct):
    id: str


class Ready(msgspec.Struct):
    """A session's READY."""

    session_id: str
    shard: tuple[int, int] = (0, 1)
    """The shard, and how many there are."""
    resume_gateway_url: str = ""
    """Where the session can be resumed."""
    guilds: msgspec.Raw = msgspec.Raw(b"[]")

    @property
    def guild_ids(self) -> set[str]:
        """The guilds that it names."""
        try:
            return {guild.id for guild in _read_guilds(self.guilds)}
        except UNREADABLE:
            return set()


class _Envelope(msgspec.Struct):
    d: Ready


_read = msgspec.json.Decoder(_Envelope).decode
_read_guilds = msgspec.json.Decoder(list[_Guild]).decode


def read_ready(frame: Frame) -> Ready:
    """Read a READY frame. Raises `msgspec.MsgspecError` for any other."""
    try:
        return _read(frame.raw).d
    except RecursionError:
        return _read(shallow(frame.raw)).d
