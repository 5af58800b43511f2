"""What an attack is: what is tried with a sandbox's own login, and how the server must answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_SHOWN_AT_MOST = 160


@dataclass(frozen=True, slots=True)
class Attack:
    """Statements or commands, one after the other; the last one is judged.

    `{own}` and `{other}` stand for the two schemas or prefixes, `{other_user}` and the like for the rest.
    """

    what: str
    tried: tuple[str, ...]
    denied: tuple[str, ...] = ()
    """The beginning of the server's refusal, an SQLSTATE or a word, one of these; empty when it does not
    refuse."""
    nothing: bool = False
    """The server answers, and tells nothing: no row, or only the attacker's own."""
    possible: str = ""
    """Why this remains possible; docs/security.md has each of these sentences."""

    def __str__(self) -> str:
        return self.what


Attacks = tuple[Attack, ...]
Table = Mapping[str, Attacks]
"""The attacks on one server, by what they are after."""


def denied(refusal: str | tuple[str, ...], *attacks: tuple[str, ...]) -> Attacks:
    """Rows that all end in the same refusal, or one of several: what it is, and what is tried."""
    words = (refusal,) if isinstance(refusal, str) else refusal
    return tuple(Attack(what, tuple(tried), denied=words) for what, *tried in attacks)


def nothing(*attacks: tuple[str, ...]) -> Attacks:
    """Rows that tell the attacker nothing."""
    return tuple(Attack(what, tuple(tried), nothing=True) for what, *tried in attacks)


def possible(reason: str, *attacks: tuple[str, ...]) -> Attacks:
    """Rows that remain possible for the same reason."""
    return tuple(Attack(what, tuple(tried), possible=reason) for what, *tried in attacks)


def every(table: Table) -> Attacks:
    """Return all rows of a table."""
    return tuple(attack for attacks in table.values() for attack in attacks)


@dataclass(frozen=True, slots=True)
class CameBack:
    """What a server answered to an attack."""

    refusals: tuple[str, ...] = ()
    """What it refused it with; empty when it did what was asked."""
    said: str = ""
    """What came back, for people. Of an answer only its kind: it may be somebody's data."""
    told: bool = False
    """Whether the answer told something that is not the attacker's own."""


class Verdict(StrEnum):
    """What an attack has come to."""

    DENIED = "denied"
    POSSIBLE = "possible"
    """It went through, as it may: `Tried.reason` says why."""
    FAILED = "failed"
    """It went through, or was refused for another reason than a missing right."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One attack and what it came to."""

    group: str
    what: str
    verdict: Verdict
    came_back: str = ""
    """What came back of an attack that was not denied."""
    reason: str = ""
    """Why it remains possible."""


def judge(group: str, attack: Attack, came: CameBack) -> Tried:
    """Return what the attack has come to."""
    if attack.denied:
        # A refusal for another reason, such as a wrong word, comes after the right was granted.
        right = any(each.startswith(word) for each in came.refusals for word in attack.denied)
    else:
        right = bool(came.refusals) or (attack.nothing and not came.told)
    if right:
        return Tried(group, attack.what, Verdict.DENIED)
    if attack.possible:
        return Tried(group, attack.what, Verdict.POSSIBLE, reason=attack.possible)
    return Tried(group, attack.what, Verdict.FAILED, came_back=brief(came.said))


def brief(text: str) -> str:
    """Return the text on one line, cut off where it gets long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_AT_MOST else f"{flat[: _SHOWN_AT_MOST - 1]}…"


def kind_of(answer: object) -> str:
    """Say what an answer is, and nothing of what is in it."""
    match answer:
        case None:
            return "an empty answer"
        case "OK":
            return "OK"
        case bool() | int() | float():
            return "a number"
        case str() | bytes():
            return f"a text of {len(answer)} characters"
        case Mapping() | Sequence() | set() | frozenset():
            return f"a list of {len(answer)}"
        case _:
            return type(answer).__name__


async def try_all(table: Table, attempt: Callable[[Attack], Awaitable[CameBack]], tried: list[Tried]) -> None:
    """Try every attack, and add what it came to."""
    for group, attacks in table.items():
        for attack in attacks:
            # One by one: what was tried stays known when the server goes away.
            tried.append(judge(group, attack, await attempt(attack)))  # noqa: PERF401


AFTERWARDS = "afterwards"


def afterwards(changed: str) -> Tried:
    """Return the row about the neighbour after all attacks; `changed` says what is no longer as it was."""
    what = "to change or end anything of the neighbour's"
    return judge(AFTERWARDS, Attack(what, (), nothing=True), CameBack(said=changed, told=bool(changed)))
