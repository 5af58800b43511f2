"""Shows events as lines, facts and JSON; pure. `docs/cli.md` documents the keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.summary import Names, who, words

from ._screen import Block, Cell, Facts, Listing, Parts
from ._words import iso

Json = dict[str, Any]
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


def as_json(event: SeenEvent, names: Names) -> Json:
    """The object of `--json`, which is one line; `frame` is null when it is no JSON."""
    return {
        "id": str(event.id),
        "type": event.type,
        "stored_at": event.stored_at.astimezone(UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "message_id": event.message_id or None,
        "guild_id": event.guild_id,
        "guild": _known(names.guilds, event.guild_id),
        "channel_id": event.channel_id,
        "channel": _known(names.channels, event.channel_id),
        "user_id": event.user.get("id"),
        "user": who(event) or None,
        "words": words(event) or None,
        "bytes": len(event.frame),
        "origin": event.origin or None,
        "headers": dict(event.headers),
        "frame": _parsed(event.frame),
    }


def _where(event: SeenEvent, names: Names) -> str:
    return " ".join(part for part in (names.guild(event.guild_id), names.channel(event.channel_id)) if part)


def _known(names: dict[str, str], key: str | None) -> str | None:
    return None if key is None else names.get(key)


def _clock(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def _size(count: int) -> str:
    return f"{count} B" if count < _KILOBYTE else f"{count / _KILOBYTE:.1f} kB"


def _parsed(frame: bytes) -> Any:
    try:
        return json.loads(frame)
    except (ValueError, RecursionError):
        return None


def _indented(frame: bytes) -> list[str]:
    parsed = _parsed(frame)
    if parsed is None:
        return [frame.decode(errors="replace")]
    return json.dumps(parsed, indent=2, ensure_ascii=False).splitlines()
