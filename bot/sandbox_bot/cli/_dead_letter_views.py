"""Shows dead letters as tables, facts and JSON; pure. `docs/cli.md` documents the keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sandbox_core.errors import SandboxError
from sandbox_core.nats import dead_letters as letters
from sandbox_core.nats.dead_letters import DeadLetter

from ._screen import Block, Cell, Facts, Grid, Line
from ._words import error_line, iso, moment, relative

Json = dict[str, Any]
_UNKNOWN = "not known"


def listing(found: Sequence[DeadLetter], now: datetime) -> Grid:
    """One row for each letter."""
    return Grid(
        ("id", "event", "server", "deliveries", "error", "since"),
        [
            (
                Cell(str(each.id), "bold"),
                each.event_type or "?",
                _header(each, "Discord-Guild-Id") or "-",
                str(each.deliveries or "?"),
                _header(each, letters.ERROR) or _UNKNOWN,
                _UNKNOWN if each.stored_at is None else relative(each.stored_at, now),
            )
            for each in found
        ],
    )


def letter(each: DeadLetter, now: datetime) -> list[Block]:
    """What a letter says of itself, and the event."""
    since = each.stored_at
    facts: list[tuple[str, Cell | str]] = [
        ("Id", Cell(str(each.id), "bold")),
        ("Event", each.event_type or _UNKNOWN),
        ("Subject", each.subject or _UNKNOWN),
        ("Message id", _header(each, letters.ORIGINAL_ID) or _UNKNOWN),
        ("Server", _header(each, "Discord-Guild-Id") or "none"),
        ("Consumer", _header(each, letters.CONSUMER) or _UNKNOWN),
        ("Deliveries", str(each.deliveries or _UNKNOWN)),
        ("Error", _header(each, letters.ERROR) or f"{_UNKNOWN}: the worker ended, or took too long"),
        ("Since", _UNKNOWN if since is None else f"{moment(since)}, {relative(since, now)}"),
    ]
    if each.obstacle:
        facts.append(("Replay", f"not possible: {each.obstacle}"))
    return [Facts(facts), Line(_text(each) or "There is no payload.")]


def listing_json(found: Sequence[DeadLetter], total: int) -> Json:
    """`deadletters NAME list`."""
    return {"letters": [letter_json(each) for each in found], "total": total}


def letter_json(each: DeadLetter, *, whole: bool = False) -> Json:
    """One letter; the `whole` one with its payload as text."""
    known = {
        "id": str(each.id),
        "event": each.event_type or None,
        "subject": each.subject or None,
        "message_id": _header(each, letters.ORIGINAL_ID),
        "guild_id": _header(each, "Discord-Guild-Id"),
        "consumer": _header(each, letters.CONSUMER),
        "deliveries": each.deliveries or None,
        "error": _header(each, letters.ERROR),
        "stored_at": None if each.stored_at is None else iso(each.stored_at),
        "replayable": not each.obstacle,
    }
    return known | {"payload": _text(each)} if whole else known


def outcome_json(what: str, done: Sequence[str], failed: Sequence[tuple[str, SandboxError]]) -> Json:
    """`deadletters NAME replay` and `drop`."""
    return {
        what: list(done),
        "failed": [
            {"id": number, "code": error.code, "message": error_line(error).removeprefix(f"{error.code}: ")}
            for number, error in failed
        ],
    }


def _header(each: DeadLetter, name: str) -> str | None:
    return each.headers.get(name) or None


def _text(each: DeadLetter) -> str:
    return each.frame.decode(errors="replace")
