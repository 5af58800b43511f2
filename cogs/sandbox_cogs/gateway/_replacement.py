"""Putting something of ours in the place of something else, and back."""

from __future__ import annotations

from typing import Any


class Replacement:
    """One entry of a mapping, or one attribute in an object's `vars`, that is ours for a while."""

    def __init__(self, where: dict[str, Any], name: str, ours: object) -> None:
        self._where = where
        self._name = name
        self._ours = ours
        self._was_there = name in where
        self._before = where.get(name)
        where[name] = ours

    def undo(self) -> None:
        """Put back what was there, unless somebody has replaced ours by now: theirs may rest on it."""
        if self._where.get(self._name) is not self._ours:
            return
        if self._was_there:
            self._where[self._name] = self._before
        else:
            del self._where[self._name]
