"""The lines about who is behind: a few by name, the rest together, and nothing left out in silence."""

from __future__ import annotations

from sandbox_core.backlog_text import MOST, lines
from sandbox_core.health import SandboxHealth
from sandbox_core.namespaces import PartHealth, PartState
from sandbox_core.namespaces.backlogs import Backlog, SessionBacklog
from sandbox_core.namespaces.client_traces import KeptSession
from sandbox_core.nats.consumers import Consumer, Consumers
from tests.unit.test_health import SANDBOX


def said(backlog: Backlog, **facts: int) -> list[tuple[str, str, str]]:
    part = PartHealth("NATS", PartState.HEALTHY, "", 1.0, facts)
    return [(each.what, each.name, each.text) for each in lines(SandboxHealth(SANDBOX, (part,), backlog))]


def bot(number: int, lag: int | None) -> SessionBacklog:
    return SessionBacklog(KeptSession(f"{number:08x}", "hikari", 1, True), lag)


def test_nobody_is_there() -> None:
    assert said(Backlog(Consumers(()), ()), dead_letters=0) == [
        ("Consumers", "", "none"),
        ("Dead letters", "", "0"),
    ]


def test_the_first_few_have_a_line_and_the_rest_one_together() -> None:
    consumers = tuple(Consumer(f"c{number}", True, 9000 - number, 0, 0) for number in range(8))
    found = said(Backlog(Consumers(consumers), tuple(bot(number, number) for number in range(7))))
    assert found[:2] == [("Consumer", "c0", "9,000 behind"), ("Consumer", "c1", "8,999 behind")]
    assert found[MOST] == ("Consumers", "", "and 3 more, 26,982 behind in all")
    assert found[MOST + 1] == ("Bot", "hikari 00000006", "6 behind")
    assert found[-2:] == [
        ("Ordinary bots", "", "and 2 more, 1 behind in all"),
        ("Dead letters", "", "not known"),
    ]


def test_what_is_in_hand_and_came_again() -> None:
    consumers = (Consumer("a", True, 0, 2, 0), Consumer("b", True, 3, 2, 1))
    assert said(Backlog(Consumers(consumers)), dead_letters=1200)[:2] == [
        ("Consumer", "a", "up to date, 2 not acknowledged"),
        ("Consumer", "b", "3 behind, 2 not acknowledged, 1 of them redelivered"),
    ]


def test_what_no_server_knows_and_what_was_not_read() -> None:
    found = said(Backlog(Consumers((Consumer("a", True, 1, 0, 0),), ("lost",), 70)))
    assert found[1:3] == [
        ("Consumers", "", "and 70 more"),
        ("Consumers", "", "not known of lost: no server of NATS has them now"),
    ]
    found = said(Backlog(unread={"consumers": "NATS is unavailable (x)."}))
    assert found[0] == ("Consumers", "", "not known: NATS is unavailable (x).")


def test_a_strangers_name_has_no_control_characters() -> None:
    ((_, name, _), *_) = said(Backlog(Consumers((Consumer("a\x1b[31m`@everyone", True, 0, 0, 0),))))
    assert name == "a?[31m??everyone"


def test_one_unknown_lag_makes_no_sum() -> None:
    found = said(Backlog(Consumers(()), tuple(bot(number, None) for number in range(6))))
    assert found[MOST + 1] == ("Ordinary bots", "", "and 1 more")
