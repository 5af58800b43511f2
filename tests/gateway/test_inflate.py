"""What Discord compresses comes out as it went in, however its messages are cut."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from sandbox_bot.gateway import inflate
from sandbox_bot.gateway.compression import Compression
from sandbox_bot.gateway.endings import ConnectionEndedError, Ending
from sandbox_bot.gateway.inflate import LARGEST, cut, stream
from sandbox_core.events import FrameError, read_frame

BOTH = pytest.mark.parametrize("compression", list(Compression))

_FRAMES = [
    (f'{{"t":"MESSAGE_CREATE","s":{number},"op":0,"d":{{"content":"' + "ä😀 words " * number + '"}}').encode()
    for number in range(1, 200)
]


class _Compressor:
    """One connection's stream, as the sender makes it."""

    def __init__(self, compression: Compression) -> None:
        self._zlib = zlib.compressobj() if compression is Compression.ZLIB else None
        self._zstd = zstd.ZstdCompressor()

    def part(self, text: bytes) -> bytes:
        """Without a flush; often nothing yet."""
        return self._zlib.compress(text) if self._zlib else self._zstd.compress(text)

    def flush(self) -> bytes:
        if self._zlib:
            return self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return self._zstd.flush(zstd.ZstdCompressor.FLUSH_BLOCK)

    def message(self, text: bytes) -> bytes:
        return self.part(text) + self.flush()


def compressed(compression: Compression, frames: Iterable[bytes] = _FRAMES) -> list[bytes]:
    """The frames as one stream, a message each."""
    compressor = _Compressor(compression)
    return [compressor.message(frame) for frame in frames]


class _Reader:
    """Uses a stream as the socket does."""

    def __init__(self, compression: Compression) -> None:
        self._stream = stream(compression)

    def read(self, message: bytes) -> list[bytes]:
        text = self._stream.inflate(message)
        if text is None:
            return []
        try:
            read_frame(text, 0.0)
        except FrameError:
            return self._stream.apart(text)
        return [text]

    def all(self, messages: Iterable[bytes]) -> list[bytes]:
        return [event for message in messages for event in self.read(message)]


@BOTH
def test_each_message_gives_its_frame(compression: Compression) -> None:
    inflate = stream(compression).inflate
    assert [inflate(message) for message in compressed(compression)] == _FRAMES


@BOTH
def test_a_frame_that_is_cut_at_any_byte_is_given_when_its_last_has_come(compression: Compression) -> None:
    frames = _FRAMES[:3]
    messages = compressed(compression, frames)
    for cut_at in range(len(messages[1]) + 1):
        reader = _Reader(compression)
        assert reader.read(messages[0]) == frames[:1]
        before, after = messages[1][:cut_at], messages[1][cut_at:]
        assert reader.all([before, after]) == frames[1:2], cut_at
        assert reader.read(messages[2]) == frames[2:]


_TEXTS = st.lists(
    st.recursive(
        st.none() | st.integers() | st.text(alphabet='{}"\\ aä😀\n', max_size=60),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
    max_size=8,
)


def _pieces(data: bytes, at: list[int]) -> Iterator[bytes]:
    places = sorted({place % (len(data) + 1) for place in at})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


@BOTH
@given(bodies=_TEXTS, at=st.lists(st.integers(min_value=0, max_value=10_000), max_size=12))
def test_any_stream_gives_the_same_frames_however_it_is_cut_into_messages(
    compression: Compression, bodies: list[object], at: list[int]
) -> None:
    frames = [
        json.dumps({"t": "X", "s": number, "op": 0, "d": {"x": body}}, ensure_ascii=False).encode()
        for number, body in enumerate(bodies)
    ]
    whole = b"".join(compressed(compression, frames))
    assert _Reader(compression).all(_pieces(whole, at)) == frames


@BOTH
def test_a_flush_that_comes_in_the_next_message_ends_the_frame_there(compression: Compression) -> None:
    compressor, reader = _Compressor(compression), _Reader(compression)
    assert reader.read(compressor.message(_FRAMES[0])) == _FRAMES[:1]
    begun = compressor.part(_FRAMES[1])
    assert reader.read(begun) == []
    assert reader.read(compressor.flush()) == _FRAMES[1:2]
    # What a frame brought together with the flush of the one before it.
    begun = compressor.part(_FRAMES[2])
    assert reader.read(begun) == []
    assert reader.read(compressor.flush() + compressor.message(_FRAMES[3])) == _FRAMES[2:4]


@BOTH
def test_several_frames_in_one_message_are_all_given(compression: Compression) -> None:
    messages = compressed(compression)
    reader = _Reader(compression)
    assert reader.read(b"".join(messages[:50])) == _FRAMES[:50]
    assert reader.read(messages[50]) == _FRAMES[50:51]
    assert reader.read(b"".join(messages[51:])) == _FRAMES[51:]


@BOTH
def test_a_large_frame_in_many_messages_is_given_once_it_is_whole(compression: Compression) -> None:
    # Of blocks that end after a brace, each of which looks like a whole frame's end.
    large = b'{"t":"X","s":1,"op":0,"d":{"a":[' + b",".join(b'{"b":%d}' % n for n in range(200_000)) + b"]}}"
    compressor, reader = _Compressor(compression), _Reader(compression)
    given: list[bytes] = []
    for start in range(0, len(large), 50_000):
        given += reader.read(compressor.part(large[start : start + 50_000]))
    given += reader.read(compressor.flush())
    assert given == [large]
    assert reader.read(compressor.message(_FRAMES[0])) == _FRAMES[:1]


def test_a_zstd_block_that_ends_within_a_frame_is_no_frame() -> None:
    compressor, reader = _Compressor(Compression.ZSTD), _Reader(Compression.ZSTD)
    assert reader.read(compressor.message(b'{"t":"X","s":1,"op":0,"d":{"a":{}')) == []
    assert reader.read(compressor.message(b'},"b":"}"')) == []
    assert reader.read(compressor.message(b"}")) == [b'{"t":"X","s":1,"op":0,"d":{"a":{}},"b":"}"}']
    assert reader.read(compressor.message(_FRAMES[0])) == _FRAMES[:1]


@BOTH
@pytest.mark.parametrize("text", [b"nonsense", b'{"t":"X","s":1,', b'{"a":"unended}'])
def test_what_is_no_frame_at_all_spoils_no_other(compression: Compression, text: bytes) -> None:
    compressor, reader = _Compressor(compression), _Reader(compression)
    given = reader.read(compressor.message(text))
    given += reader.read(compressor.message(_FRAMES[0]))
    assert given == [text, _FRAMES[0]]
    assert reader.read(compressor.message(_FRAMES[1])) == _FRAMES[1:2]


def test_objects_are_cut_apart_by_their_braces_alone() -> None:
    one, two = b'{"a":"}{\\"}","b":{"c":[{}]}}', b'{"d":"\\\\"}'
    assert cut(one + b"\n " + two + b' {"e"') == ([one, two], b'{"e"')
    assert cut(b"") == ([], b"")
    assert cut(b"}" + one) == ([b"}", one], b"")


_SPOILT = {
    # What can't be, what is nothing, and what follows the stream's own end.
    Compression.ZLIB: [
        b"\x07\x00\x00\xff\xff",
        b"what is this\x00\x00\xff\xff",
        b"\x03\x00" + zlib.adler32(_FRAMES[0]).to_bytes(4, "big") + b"\x00\x00\xff\xff",
    ],
    Compression.ZSTD: [
        b"\x07\x00\x00\xff\xff",
        b"what is this",
        b"\x01\x00\x00\x00\x00\x00",
    ],
}


@pytest.mark.parametrize(
    ("compression", "spoilt"), [(kind, message) for kind, messages in _SPOILT.items() for message in messages]
)
def test_what_is_no_such_stream_ends_the_connection_and_keeps_the_session(
    compression: Compression, spoilt: bytes
) -> None:
    inflate = stream(compression).inflate
    messages = compressed(compression)
    assert inflate(messages[0]) == _FRAMES[0]
    # The end of a zstd stream shows in what comes after it.
    with pytest.raises(ConnectionEndedError) as ended:
        _ = [inflate(message) for message in (spoilt, messages[1])]
    assert (ended.value.ending, ended.value.session_lost) == (Ending.GARBLED, False)


def test_zlib_where_zstd_was_asked_for_ends_the_connection() -> None:
    reader = _Reader(Compression.ZSTD)
    with pytest.raises(ConnectionEndedError) as ended:
        reader.read(compressed(Compression.ZLIB)[0])
    assert ended.value.ending is Ending.GARBLED


@BOTH
def test_a_stream_without_its_beginning_ends_the_connection(compression: Compression) -> None:
    with pytest.raises(ConnectionEndedError):
        _Reader(compression).all(compressed(compression)[1:])


@BOTH
def test_a_message_that_would_become_gigabytes_ends_the_connection_before_it_does(
    compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LARGEST < 100_000_000
    monkeypatch.setattr(inflate, "LARGEST", 1_000_000)
    compressor, reader = _Compressor(compression), _Reader(compression)
    assert reader.read(compressor.message(_FRAMES[0])) == _FRAMES[:1]
    bomb = compressor.message(b'{"t":"X","s":1,"op":0,"d":{"x":"' + b" " * 50_000_000 + b'"}}')
    assert len(bomb) < 60_000
    with pytest.raises(ConnectionEndedError) as ended:
        reader.read(bomb)
    assert ended.value.ending is Ending.GARBLED


@BOTH
def test_a_frame_that_never_ends_ends_the_connection(
    compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflate, "LARGEST", 100_000)
    compressor, reader = _Compressor(compression), _Reader(compression)
    noise = bytes(range(0x30, 0x5B)).replace(b'"', b"")
    send = compressor.message if compression is Compression.ZSTD else compressor.part
    pieces = (send(b'{"%d":"%b%d",' % (number, noise, number * 7919)) for number in range(100_000))
    with pytest.raises(ConnectionEndedError):
        reader.all(pieces)
