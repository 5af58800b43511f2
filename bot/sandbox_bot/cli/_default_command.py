"""A group of commands whose first word may also be a sandbox: `events NAME` is `events list NAME`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

DEFAULT = "list"
_HELP = frozenset({"-h", "--help"})


class DefaultsToList(TyperGroup):
    """Takes what is none of its commands as what to list.

    A sandbox with the name of a command is reached as `events list NAME`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name in front where it is missing."""
        if DEFAULT in self.commands and args and args[0] not in self.commands and args[0] not in _HELP:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
