"""Both ways through a nats-py client, in bytes: messages into its buffer, answers before it parses them.

nats-py checks, encodes and copies every message in several steps and coroutines, which took a quarter of an
event's time. Here a message becomes the same bytes in one step, by the NATS client protocol
(docs.nats.io, "NATS Protocol", HPUB), and is appended where `Client.publish` would append it. nats-py's own
task still writes the buffer to the socket, so order, back-pressure and the handling of a lost connection
stay its own.

Rests on nats-py 2.16's `Client`: `_send_command` appends to the list `_pending` and adds to
`_pending_data_size`; the task `_flusher_task` takes a future from `_flush_queue`, writes the list, replaces
it and resolves the future. With a client without these names, `Client.publish` is used.

What arrives in great numbers has a short way too. nats-py matches a message against several patterns, parses
its headers, wraps it, queues it and wakes a task for it. A `Way` recognises messages of one kind in the bytes
and takes them; whatever none recognises goes nats-py's way. A message of a way's kind can take either, so it
needs an ordinary subscription as well. Rests on `Client._read_loop`, which hands every piece that arrives to
`_ps.parse`, a `Parser` that keeps an unfinished rest in `buf` and says in `state` whether it is between two
messages; a `Subscription` knows its number as `_id`. Without these names every message takes nats-py's way.

A process may be frozen between a message's buffering and its writing. So the clock is looked at once more
as the buffer is written: what may not be sent any more is left out, and its publisher sends it again later.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

_log = structlog.get_logger("sandbox.nats")

_NAMES = (
    "_status",
    "_pending",
    "_pending_data_size",
    "_flush_queue",
    "_flusher_task",
    "_transport",
)
MESSAGE_ID: Final = "Nats-Msg-Id"
"""The header by which JetStream recognises a repeated message within the stream's duplicate window."""
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""What can name a header (RFC 7230)."""
_PUBLICATION = b"HPUB "
LINE_BREAK = b"\r\n"
_HEAD = f"\r\nNATS/1.0\r\n{MESSAGE_ID}: "
# As large as nats-py's own buffer: what is more waits until the socket has taken some.
_MAX_BUFFERED_BYTES = 2 * 1024 * 1024
_ROOM_WITHIN = 1.0


class Label:
    """Where messages go and what they say of themselves besides their id: made once, for many of them.

    Not to be changed; another is made for what is different.
    """

    __slots__ = ("_lines", "_size", "_start", "headers", "subject")

    def __init__(self, subject: str, headers: Mapping[str, str]) -> None:
        self.subject: Final = subject
        self.headers: Final = headers
        lines = _lines(subject, headers)
        self._start: Final = b"" if lines is None else f"HPUB {subject} ".encode()
        self._lines: Final = None if lines is None else f"\r\n{lines}\r\n".encode()
        """What follows the id, up to the payload."""
        self._size: Final = len(_HEAD) + len(self._lines or "") - len("\r\n")
        """Of the head without an id; the line break before it is not the head's."""

    def encode(self, message_id: str, reply: str, payload: bytes) -> bytes | None:
        """A message in the client protocol, as nats-py encodes it.

        None for what nats-py would refuse or change: white space, and so any line break, in the subject, the
        id or a header's value, and a name that can't be a header's. `reply` is the caller's own and not
        looked at.
        """
        lines = self._lines
        if lines is None or not message_id:
            return None
        size = self._size
        # As ours all are. Of white space only the blank is printable.
        if message_id.isascii() and message_id.isprintable() and " " not in message_id:
            size += len(message_id)
        elif message_id.split() == [message_id]:
            size += len(message_id.encode())
        else:
            return None
        own = f"{reply} {size} {size + len(payload)}{_HEAD}{message_id}"
        return b"".join((self._start, own.encode(), lines, payload, b"\r\n"))


def _lines(subject: str, headers: Mapping[str, str]) -> str | None:
    text = "".join([subject, *headers.values()])
    if not subject or text.split() != [text] or not all(map(_TOKEN.fullmatch, headers)):
        return None
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


class PublishWire:
    """Puts messages into one client's buffer; `may_send` is asked when the buffer is written."""

    def __init__(self, client: Client, may_send: Callable[[], bool] = lambda: True) -> None:
        # nats-py's private names have no types to rely on.
        self._client: Any = client
        missing = [name for name in _NAMES if not hasattr(client, name)]
        self.direct = not missing
        """False when this version of nats-py keeps its buffer elsewhere: then `put` takes nothing."""
        if missing:
            _log.warning("nats_client_unknown", missing=missing)
        self._may_send = may_send
        self._transport: Any = None
        """The transport that is guarded; every connection has its own."""
        self._awaited: list[bytes] | None = None
        """nats-py's buffer, if its task was woken to write it."""
        # Wakes the task that writes; nobody waits for it.
        self._nobody: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._nobody.set_result(None)

    def put(self, label: Label, message_id: str, reply: str, payload: bytes) -> bool:
        """Have the message written; False when it has to be given to `send`, once there is room.

        That is so without a connection, while the buffer is full, and for what `Label.encode` does not take.
        """
        client = self._client
        pending = client._pending
        begins = pending is not self._awaited
        if client._status != Client.CONNECTED or (begins and not self._may_begin()):
            return False
        if client._pending_data_size > _MAX_BUFFERED_BYTES:
            return False
        command = label.encode(message_id, reply, payload)
        if command is None:
            return False
        pending.append(command)
        client._pending_data_size += len(command)
        if begins:
            # nats-py's task takes another list when it has written this one: until then it need not be woken.
            self._awaited = pending
            if client._flush_queue.empty():
                client._flush_queue.put_nowait(self._nobody)
        return True

    def _may_begin(self) -> bool:
        """Whether something is there that will write the buffer."""
        client = self._client
        if not self.direct or client._flusher_task.done():
            return False
        if client._transport is not self._transport:
            self._guard(client._transport)
        return True

    def _guard(self, transport: Any) -> None:
        write = transport.writelines

        def write_what_may_be_sent(commands: list[bytes]) -> None:
            if not self._may_send():
                commands = [command for command in commands if not command.startswith(_PUBLICATION)]
            write(commands)

        transport.writelines = write_what_may_be_sent
        self._transport = transport

    async def send(self, subject: str, reply: str, headers: dict[str, str], payload: bytes) -> None:
        """Publish by nats-py's own means. Raises its errors."""
        await self._client.publish(subject, payload, reply=reply, headers=headers)

    @property
    def full(self) -> bool:
        """True while what is sent should wait for `room`; never without a connection."""
        client = self._client
        return self.direct and client.is_connected and client._pending_data_size > _MAX_BUFFERED_BYTES

    async def room(self) -> None:
        """Return when the socket has taken what was buffered, or the connection is lost."""
        client = self._client
        while self.full:
            written = asyncio.get_running_loop().create_future()
            if not client._flush_queue.full():
                client._flush_queue.put_nowait(written)
            # A lost connection leaves it unresolved.
            await asyncio.wait({written}, timeout=_ROOM_WITHIN)

    def drop(self) -> None:
        """Forget what is buffered, when the connection is lost.

        nats-py would write it to the next connection, however late. Whoever put something into the buffer
        has either heard of the loss or waits for an answer in vain; subscriptions are made anew in any case.
        """
        if self.direct:
            self._client._pending = []
            self._client._pending_data_size = 0
            self._awaited = None


class Way(Protocol):
    """Takes messages of one kind."""

    def take(self, data: bytes, position: int) -> tuple[int, int]:
        """Handle the whole messages that stand in `data` from `position` on.

        Returns where something else begins, and how many they were. Must not raise.
        """

    def begins(self, data: bytes, position: int) -> bool:
        """True when an unfinished message of this kind stands at `position`."""


class Incoming:
    """The ways in use on one connection."""

    def __init__(self, client: Any) -> None:
        # The private names of nats-py's `Client` have no types to rely on.
        self._client = client
        self._parser = client._ps
        self._ways: list[Way] = []
        self._parse_slowly = self._parser.parse
        # The parser itself stays: it may just now be in the middle of what it was given before.
        self._parser.parse = self._parse

    def use(self, way: Way) -> None:
        """Give messages to `way` from now on."""
        self._ways.append(way)

    def leave(self, way: Way) -> None:
        """Give `way` no more; with the last one nats-py's parser is as it was."""
        self._ways.remove(way)
        if not self._ways and self._parser.parse == self._parse:
            self._parser.parse = self._parse_slowly

    async def _parse(self, data: bytes = b"") -> None:
        parser = self._parser
        if parser.state != AWAITING_CONTROL_LINE:
            await self._parse_slowly(data)
            return
        if parser.buf:
            data = bytes(parser.buf) + data
            parser.buf.clear()
        position = self._take(data)
        if position == len(data):
            return
        rest = data[position:]
        for way in self._ways:
            if way.begins(data, position):
                # What comes next completes it.
                parser.buf.extend(rest)
                return
        await self._parse_slowly(rest)

    def _take(self, data: bytes) -> int:
        position = count = 0
        taken = True
        while taken and position < len(data):
            taken = False
            for way in self._ways:
                position, number = way.take(data, position)
                count += number
                taken = taken or number > 0
        if count:
            stats = self._client.stats
            stats["in_msgs"] += count
            stats["in_bytes"] += position
        return position


def incoming(client: Client, subscription: Subscription) -> tuple[Incoming, int] | None:
    """The client's ways and the subscription's number; None with another nats-py than is known."""
    parser, sid = getattr(client, "_ps", None), getattr(subscription, "_id", None)
    if not isinstance(parser, Parser) or not hasattr(parser, "buf") or not isinstance(sid, int):
        _log.warning("nats_parser_unknown")
        return None
    present = getattr(parser.parse, "__self__", None)
    return (present if isinstance(present, Incoming) else Incoming(client)), sid
