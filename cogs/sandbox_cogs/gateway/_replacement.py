"""Replaces an entry of a mapping or an attribute, and restores it later."""

from __future__ import annotations

from typing import Any


class Replacement:
    """A temporary value for one entry of a mapping, or for one attribute in an object's `vars`."""

    def __init__(self, where: dict[str, Any], name: str, ours: object) -> None:
        self._where = where
        self._name = name
        self._ours = ours
        self._was_there = name in where
        self._before = where.get(name)
        where[name] = ours

    def undo(self) -> None:
        """Restore the old value, unless other code has replaced ours: its replacement may call ours."""
        if self._where.get(self._name) is not self._ours:
            return
        if self._was_there:
            self._where[self._name] = self._before
        else:
            del self._where[self._name]
