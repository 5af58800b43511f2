"""Shows events as lines and facts; pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from sandbox_core.workbench.as_json import as_json, parsed
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.summary import Names, who, words

from ._screen import Block, Cell, Facts, Listing, Parts
from ._words import iso

__all__ = ["as_json", "line", "whole"]

_KILOBYTE = 1000


def line(event: SeenEvent, names: Names) -> Parts:
    """One line: the time, the number, the type, where, who, the first words, the size."""
    said, person = words(event), who(event)
    return Parts(
        [
            Cell(_clock(event.stored_at), "dim"),
            Cell(str(event.id), "dim"),
            Cell(event.type, "bold magenta" if event.origin else "bold cyan"),
            Cell(_where(event, names), "green"),
            Cell(f"{person}:" if person and said else person, "yellow"),
            said,
            Cell(_size(len(event.frame)), "dim"),
            Cell(event.origin, "magenta"),
        ]
    )


def whole(event: SeenEvent, names: Names) -> list[Block]:
    """What is known of one event, and its frame."""
    facts: list[tuple[str, Cell | str]] = [
        ("Number", Cell(str(event.id), "bold")),
        ("Event", event.type),
        ("Stored", iso(event.stored_at)),
        ("Where", _where(event, names) or "no server"),
        ("Who", who(event) or "nobody"),
        ("Size", _size(len(event.frame))),
    ]
    facts += [(name, value) for name, value in sorted(event.headers.items())]
    return [Facts(facts), Listing(_indented(event.frame))]


def _where(event: SeenEvent, names: Names) -> str:
    return " ".join(part for part in (names.guild(event.guild_id), names.channel(event.channel_id)) if part)


def _clock(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def _size(count: int) -> str:
    return f"{count} B" if count < _KILOBYTE else f"{count / _KILOBYTE:.1f} kB"


def _indented(frame: bytes) -> list[str]:
    value = parsed(frame)
    if value is None:
        return [frame.decode(errors="replace")]
    return json.dumps(value, indent=2, ensure_ascii=False).splitlines()
