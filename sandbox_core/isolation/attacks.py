"""What an attack is: what is tried with a sandbox's own login, and how the server must answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    """Statements or commands, one after the other; the last one is judged.

    `{own}` and `{other}` stand for the two schemas or prefixes, `{other_user}` and the like for the rest.
    """

    what: str
    tried: tuple[str, ...]
    denied: str = ""
    """The beginning of the server's refusal: an SQLSTATE or a word; empty when it does not refuse."""
    nothing: bool = False
    """The server answers, and tells nothing: no row, or only the attacker's own."""
    possible: str = ""
    """Why this remains possible; docs/security.md has each of these sentences."""

    def __str__(self) -> str:
        return self.what


def denied(word: str, *attacks: tuple[str, ...]) -> tuple[Attack, ...]:
    """Rows that all end in the same refusal: what it is, and what is tried."""
    return tuple(Attack(what, tuple(tried), denied=word) for what, *tried in attacks)


def nothing(*attacks: tuple[str, ...]) -> tuple[Attack, ...]:
    """Rows that tell the attacker nothing."""
    return tuple(Attack(what, tuple(tried), nothing=True) for what, *tried in attacks)


def possible(reason: str, *attacks: tuple[str, ...]) -> tuple[Attack, ...]:
    """Rows that remain possible for the same reason."""
    return tuple(Attack(what, tuple(tried), possible=reason) for what, *tried in attacks)
