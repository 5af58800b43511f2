"""The fixtures, filled, as a client gets them."""

from __future__ import annotations

from typing import Any

from sandbox_core.workbench.fixtures import Found, Scene, Snowflakes, fill, load, names

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
