"""The fixtures, filled, as a client gets them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sandbox_core.workbench.fixtures import Found, Scene, Snowflakes, fill, load, names
from sandbox_core.workbench.scrubbing import scrub_lines

GUILD = "613425648685547541"
SKELETON = ("READY", "GUILD_CREATE")
"""What a client gets before everything else."""


def filled() -> dict[str, dict[str, Any]]:
    """The `d` of every type, in one server with one bot."""
    scene, ids = Scene(Found(guild_id=GUILD)), Snowflakes()
    return {name: fill(load(name).data, scene, ids) for name in names()}


def seen_before(frames: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The server, and the message that is edited, deleted and reacted to."""
    message = frames["MESSAGE_CREATE"] | {"id": frames["MESSAGE_UPDATE"]["id"]}
    return [*((name, frames[name]) for name in SKELETON), ("MESSAGE_CREATE", message)]


def recording(events: Iterable[tuple[str, Any]], *, began: str = "2026-11-30T20:00:00+00:00") -> list[bytes]:
    """The lines of a recording with one event in each half second."""
    lines: list[dict[str, Any]] = [
        {
            "at": 0.5 * number,
            "type": event_type,
            "guild_id": GUILD,
            "headers": {"Nats-Msg-Id": f"0123456789abcdef:{number}", "Discord-Event": event_type},
            "frame": {"t": event_type, "s": number, "op": 0, "d": data},
        }
        for number, (event_type, data) in enumerate(events, 1)
    ]
    first = {"recording": 1, "name": "own", "began": began, "ended": began, "events": len(lines)}
    return [json.dumps(each).encode() for each in (first | {"scrubbed": False}, *lines)]


def scrubbed(frames: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same events, of false people."""
    lines = [json.loads(each) for each in scrub_lines(recording(frames.items()))]
    return {line["type"]: line["frame"]["d"] for line in lines[1:]}
