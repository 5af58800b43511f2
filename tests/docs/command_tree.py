"""The commands of `sandboxctl`, as the documents name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import typer

from sandbox_bot.cli import app
from sandbox_bot.cli._default_command import DEFAULT, DefaultsToList


@cache
def commands() -> Mapping[str, Any]:
    """Those of the first level."""
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def options_of(words: Sequence[str]) -> set[str]:
    """The options of a command, as `connect`, `events emit` or `events NAME`, with whatever behind it."""
    command = commands()[words[0]]
    for word in words[1:]:
        inner = getattr(command, "commands", {})
        if word not in inner:
            command = inner.get(DEFAULT, command) if isinstance(command, DefaultsToList) else command
            break
        command = inner[word]
    return {option for parameter in command.params for option in parameter.opts}
