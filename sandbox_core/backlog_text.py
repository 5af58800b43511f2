"""Who reads a sandbox's events, and how far each is behind, for Discord and the command line; pure."""

from __future__ import annotations

from dataclasses import dataclass

from .error_text import shown
from .health import SandboxHealth
from .namespaces.backlogs import SessionBacklog
from .nats.consumers import Consumer

MOST = 5
"""How many consumers, and how many ordinary bots, have a line of their own."""
_NAME = 40


@dataclass(frozen=True, slots=True)
class Behind:
    """One line: what it is, its name, if it has one, and how far it is behind."""

    what: str
    name: str
    text: str


def dead_letters(health: SandboxHealth) -> int | None:
    """How many events no worker could handle; None when that is not known."""
    return _fact(health, "dead_letters")


def stored(health: SandboxHealth) -> int | None:
    """How many events are stored, whoever has read them; None when that is not known."""
    return _fact(health, "messages")


def lines(health: SandboxHealth) -> list[Behind]:
    """Return the lines: consumers, ordinary bots, dead letters. What could not be read says so."""
    letters = dead_letters(health)
    return [
        *_consumers(health),
        *_sessions(health),
        Behind("Dead letters", "", "not known" if letters is None else f"{letters:,}"),
    ]


def _consumers(health: SandboxHealth) -> list[Behind]:
    backlog = health.backlog
    if backlog.consumers is None:
        return [Behind("Consumers", "", _not_known(health, "consumers"))]
    found = backlog.consumers
    known, hidden = found.known[:MOST], found.known[MOST:]
    said = [Behind("Consumer", shown(each.name, _NAME), _of_consumer(each)) for each in known]
    if hidden or found.unread:
        more = f"and {len(hidden) + found.unread:,} more"
        behind = "" if found.unread else f", {_in_all(sum(each.lag for each in hidden))}"
        said.append(Behind("Consumers", "", more + behind))
    if found.unknown:
        names = ", ".join(shown(each, _NAME) for each in found.unknown[:MOST])
        more = f" and {len(found.unknown) - MOST} more" if len(found.unknown) > MOST else ""
        said.append(Behind("Consumers", "", f"not known of {names}{more}: no server of NATS has them now"))
    return said or [Behind("Consumers", "", "none")]


def _sessions(health: SandboxHealth) -> list[Behind]:
    backlog = health.backlog
    if backlog.sessions is None:
        if "sessions" not in backlog.unread:
            # There is no endpoint for them.
            return []
        return [Behind("Ordinary bots", "", _not_known(health, "sessions"))]
    every = sorted(backlog.sessions, key=lambda each: (-(each.lag or 0), each.session.number))
    said = [
        Behind("Bot", f"{shown(each.session.library, _NAME) or 'unnamed'} {each.session.number}", _of(each))
        for each in every[:MOST]
    ]
    if hidden := every[MOST:]:
        lags = [each.lag for each in hidden]
        behind = "" if None in lags else f", {_in_all(sum(lag or 0 for lag in lags))}"
        said.append(Behind("Ordinary bots", "", f"and {len(hidden):,} more{behind}"))
    if "lags" in backlog.unread:
        said.append(Behind("Ordinary bots", "", _not_known(health, "lags")))
    return said


def _in_all(lag: int) -> str:
    return f"{lag:,} behind in all" if lag else "up to date"


def _of_consumer(consumer: Consumer) -> str:
    waiting = f"{consumer.lag:,} behind" if consumer.lag else "up to date"
    if not consumer.unacknowledged:
        return waiting
    again = f", {consumer.redelivered:,} of them redelivered" if consumer.redelivered else ""
    return f"{waiting}, {consumer.unacknowledged:,} not acknowledged{again}"


def _of(behind: SessionBacklog) -> str:
    if behind.lag is None:
        text = "how far it is behind is not known"
    else:
        text = f"{behind.lag:,} behind" if behind.lag else "up to date"
    return text if behind.session.connected else f"{text}, away: it can still resume"


def _not_known(health: SandboxHealth, what: str) -> str:
    said = health.backlog.unread.get(what)
    return "not known" if said is None else f"not known: {said}"


def _fact(health: SandboxHealth, name: str) -> int | None:
    found = next((part.facts[name] for part in health.parts if name in part.facts), None)
    return found if isinstance(found, int) else None
