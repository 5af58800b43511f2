"""What Discord compresses comes out as it went in, however its messages are cut."""

from __future__ import annotations

import random
import zlib

import pytest

from sandbox_bot.gateway.endings import ConnectionEndedError, Ending
from sandbox_bot.gateway.inflate import inflater


class _Zlib:
    """discord.py's context, as far as it is asked, whichever it has for its connections here."""

    COMPRESSION_TYPE = "zlib-stream"


_FRAMES = [
    (f'{{"t":"MESSAGE_CREATE","s":{number},"op":0,"d":{{"content":"' + "ä😀 words " * number + '"}}').encode()
    for number in range(1, 200)
]


def compressed() -> list[bytes]:
    """The frames as one stream, a message each."""
    deflater = zlib.compressobj()
    return [deflater.compress(frame) + deflater.flush(zlib.Z_SYNC_FLUSH) for frame in _FRAMES]


def test_each_message_gives_its_frame() -> None:
    inflate = inflater(_Zlib())
    assert [inflate(message) for message in compressed()] == _FRAMES


def test_a_frame_in_pieces_is_given_when_its_last_has_come() -> None:
    inflate = inflater(_Zlib())
    chance = random.Random(7)
    given = []
    for message in compressed():
        cut = chance.randrange(1, len(message) - 4)
        assert inflate(message[:cut]) is None
        given.append(inflate(message[cut:]))
    assert given == _FRAMES


# What can't be, what is nothing, and what follows the stream's own end.
@pytest.mark.parametrize(
    "spoilt",
    [
        b"\x07\x00\x00\xff\xff",
        b"what is this\x00\x00\xff\xff",
        b"\x03\x00" + zlib.adler32(_FRAMES[0]).to_bytes(4, "big") + b"\x00\x00\xff\xff",
    ],
)
def test_what_is_no_such_stream_ends_the_connection_and_keeps_the_session(spoilt: bytes) -> None:
    inflate = inflater(_Zlib())
    messages = compressed()
    assert inflate(messages[0]) == _FRAMES[0]
    with pytest.raises(ConnectionEndedError) as ended:
        inflate(spoilt)
    assert (ended.value.ending, ended.value.session_lost) == (Ending.GARBLED, False)


class _Otherwise:
    """discord.py's context for another compression; here it only turns the bytes round."""

    COMPRESSION_TYPE = "zstd-stream"

    def decompress(self, data: bytes) -> str | None:
        if not data:
            return None
        if data == b"?":
            raise ArithmeticError
        return data[::-1].decode()


def test_another_compression_is_left_to_discord_py() -> None:
    inflate = inflater(_Otherwise())
    assert inflate(b"") is None
    assert inflate(b'"olleh"') == b'"hello"'
    with pytest.raises(ConnectionEndedError):
        inflate(b"?")
