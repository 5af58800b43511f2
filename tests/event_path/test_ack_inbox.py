"""Answers are heard whole, however the bytes are cut, and whatever comes between them."""

from __future__ import annotations

import inspect
import random
from collections.abc import AsyncIterator, Sequence

import pytest
from nats.aio.client import Client
from nats.protocol.parser import Parser
from structlog.testing import capture_logs

from sandbox_core.nats import wire
from sandbox_core.nats.ack_inbox import AckInbox, PubAckError
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.streams import StreamLimits, Streams

from .conftest import read_back, until


class Heard:
    """Collects answers."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, int]] = []

    def stored(self, numbers: Sequence[int]) -> None:
        self.answers += [("stored", number) for number in numbers]

    def duplicate(self, number: int, sequence: int) -> None:
        self.answers.append((f"duplicate of {sequence}", number))

    def not_stored(self, number: int, error: PubAckError) -> None:
        self.answers.append((f"refused {error.err_code}", number))

    def no_stream(self, number: int) -> None:
        self.answers.append(("no stream", number))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def inbox(connection: NatsConnection, heard: Heard) -> AsyncIterator[AckInbox]:
    inbox = AckInbox(connection.client, heard)
    await inbox.open()
    yield inbox
    await inbox.close(connected=connection.connected)


def arriving(inbox: AckInbox, other_sid: int, seed: int) -> tuple[bytes, list[tuple[str, int]], int]:
    """Protocol bytes with all that a server sends, the answers in them, and the other messages' count."""
    chance = random.Random(seed)
    subscription = inbox._subscription
    assert subscription is not None
    sid = subscription._id
    pieces: list[bytes] = []
    answers: list[tuple[str, int]] = []
    others = 0
    for number in range(60):
        subject = f"{inbox.prefix}{number}".encode()
        kind = chance.choices(("stored", "refused", "no stream", "other", "ping", "ok"), (12, 1, 1, 1, 1, 1))[
            0
        ]
        if kind == "stored":
            payload = b'{"stream":"EVENTS","seq":%d}' % number
            if chance.random() < 0.3:
                payload = b'{"stream":"EVENTS", "domain":"error", "seq":%d}' % number
            answers.append(("stored", number))
            if chance.random() < 0.2:
                payload = b'{"stream":"EVENTS", "duplicate": true, "domain":"error", "seq":7}'
                answers[-1] = ("duplicate of 7", number)
        elif kind == "refused":
            payload = b'{"error":{"code":503,"err_code":10077,"description":"MSG x 1 2\\r\\n"},"seq":0}'
            if chance.random() < 0.5:
                # Not as any server writes it: the refusal behind what a stored message begins with.
                payload = b'{"stream":"EVENTS","seq":0,"error":{"err_code":10077}}'
            answers.append(("refused 10077", number))
        elif kind == "no stream":
            status = b"NATS/1.0 503\r\n\r\n"
            pieces.append(b"HMSG %b %d %d %d\r\n%b\r\n" % (subject, sid, len(status), len(status), status))
            answers.append(("no stream", number))
            continue
        elif kind == "other":
            # A message that looks like an answer inside.
            inner = b"MSG %b %d 2\r\n{}\r\n" % (subject, sid)
            pieces.append(b"MSG other %d %d\r\n%b\r\n" % (other_sid, len(inner), inner))
            others += 1
            continue
        else:
            pieces.append({"ping": b"PING\r\n", "ok": b"+OK\r\n"}[kind])
            continue
        pieces.append(b"MSG %b %d %d\r\n%b\r\n" % (subject, sid, len(payload), payload))
    return b"".join(pieces), answers, others


@pytest.mark.parametrize("largest", [1, 7, 60, 500, 100_000])
async def test_cut_anywhere_the_same_answers_are_heard(
    inbox: AckInbox, heard: Heard, connection: NatsConnection, largest: int
) -> None:
    others: list[bytes] = []
    got = await connection.client.subscribe("other")
    client = connection.client
    for seed in range(6):
        chance = random.Random(seed)
        data, expected, count = arriving(inbox, got._id, seed)
        heard.answers.clear()
        position = 0
        while position < len(data):
            size = chance.randint(1, largest)
            await client._ps.parse(data[position : position + size])
            position += size
        await until(lambda expected=expected: len(heard.answers) >= len(expected))  # type: ignore[misc]
        assert sorted(heard.answers, key=lambda answer: answer[1]) == expected
        others = [(await got.next_msg()).data for _ in range(count)]
        assert all(other.startswith(b"MSG ") for other in others)
        assert not client._ps.buf
    assert connection.connected


async def test_a_burst_is_heard_in_order_without_nats_pys_queue(
    inbox: AckInbox, heard: Heard, connection: NatsConnection
) -> None:
    subscription = inbox._subscription
    assert subscription is not None
    line = "MSG {}{} {} 2\r\n{{}}\r\n"
    data = "".join(line.format(inbox.prefix, number, subscription._id) for number in range(100)).encode()
    before = connection.client.stats["in_msgs"]
    await connection.client._ps.parse(data)
    # Nothing was awaited: all were heard while they were parsed.
    assert heard.answers == [("stored", number) for number in range(100)]
    assert connection.client.stats["in_msgs"] - before >= 100


async def test_a_fault_in_what_follows_is_logged_and_the_next_is_heard(
    inbox: AckInbox, heard: Heard, connection: NatsConnection, reader: Client
) -> None:
    def fault(number: int) -> None:
        raise ZeroDivisionError(number)

    with capture_logs() as logs, pytest.MonkeyPatch.context() as patch:
        patch.setattr(heard, "stored", fault)
        patch.setattr(heard, "no_stream", fault)
        await reader.publish(f"{inbox.prefix}1", b"{}")
        await reader.publish(f"{inbox.prefix}2", b'{"error": nonsense')
        await reader.flush()
        # Nobody listens there: the server says so itself.
        await connection.client.publish("nobody.listens", b"", reply=f"{inbox.prefix}3")
        await until(lambda: len(logs) == 3)
    assert {entry["event"] for entry in logs} == {"answer_not_handled"}
    await reader.publish(f"{inbox.prefix}4", b"{}")
    await reader.publish(f"{inbox.prefix}what", b"{}")
    with capture_logs() as logs:
        await until(lambda: logs and heard.answers)
    assert heard.answers == [("stored", 4)]
    assert [entry["event"] for entry in logs] == ["answer_not_understood"]


async def test_with_another_parser_nats_pys_way_is_taken(
    connection: NatsConnection, heard: Heard, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Renamed:
        """What nats-py's parser no longer is."""

    monkeypatch.setattr(wire, "Parser", Renamed)
    inbox = AckInbox(connection.client, heard)
    with capture_logs() as logs:
        await inbox.open()
    assert [entry["event"] for entry in logs] == ["nats_parser_unknown"]
    assert "parse" not in vars(connection.client._ps)
    await Streams(reader.jetstream(), StreamLimits()).ensure()
    for number in range(3):
        await connection.client.publish("events.X", b"", reply=f"{inbox.prefix}{number}")
    await until(lambda: len(heard.answers) == 3)
    assert heard.answers == [("stored", number) for number in range(3)]
    assert len(await read_back(reader, "EVENTS")) == 3
    await inbox.close(connected=True)


async def test_closed_it_leaves_the_parser_as_it_was(connection: NatsConnection, heard: Heard) -> None:
    parser = connection.client._ps
    inbox = AckInbox(connection.client, heard)
    await inbox.open()
    assert isinstance(getattr(parser.parse, "__self__", None), wire.Incoming)
    await inbox.close(connected=True)
    assert parser.parse.__func__ is Parser.parse  # type: ignore[attr-defined]
    await connection.client.flush()


def test_nats_pys_parser_still_works_as_is_relied_on() -> None:
    source = inspect.getsource(Parser)
    assert "self.buf.extend(data)" in source
    assert "self.state = AWAITING_CONTROL_LINE" in source
    assert "self.state = AWAITING_MSG_PAYLOAD" in source
