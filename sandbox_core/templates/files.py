"""Finds the templates in their directory, and reads one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sandbox_core.errors import DoesNotFit
from sandbox_core.settings import Settings
from sandbox_core.words import listed

from .fitting import DEFAULT_TABLES, is_left_out, made_tables
from .statements import Problem, Statement, divide

NONE = "none"
"""The name for no template, where a default one would be taken."""
DEFAULT = "default"
"""The name of the template of those who name none."""
MOST_BYTES = 8 * 1024 * 1024
MOST_SECONDS = timedelta(seconds=30)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read."""

    name: str
    statements: Sequence[Statement]
    within: timedelta
    """The longest time for all of it."""

    @property
    def replaces_tables(self) -> bool:
        """Whether it makes one of the default tables itself; then none of these is there before."""
        return any(made_tables(each) in DEFAULT_TABLES for each in self.statements)

    def does_not_fit(self, line: int, problem: str, right: str) -> DoesNotFit:
        """Return the error about one line."""
        return DoesNotFit(f"The template {self.name}.sql, line {line},", problem, right)


def template_after(present: str, wanted: str | None) -> str:
    """Return which template a sandbox with the present one has after a reset, "" for none."""
    return present if wanted is None else "" if wanted == NONE else wanted


class Templates:
    """The files `{name}.sql` of one directory; None: there are no templates."""

    def __init__(self, directory: Path | None, *, within: timedelta = MOST_SECONDS) -> None:
        self._directory = directory
        self._within = within

    @classmethod
    def of(cls, settings: Settings) -> Templates:
        """Return those of the settings."""
        return cls(
            settings.sandbox_templates_dir, within=timedelta(seconds=settings.sandbox_template_seconds)
        )

    async def names(self) -> list[str]:
        """Return the names of all templates, sorted; none when the directory can't be read."""
        return await asyncio.to_thread(self._names)

    async def chosen(self, name: str | None) -> Template | None:
        """Return the template with this name; without one the default, if there is one.

        Raises `DoesNotFit`.
        """
        return await asyncio.to_thread(self._chosen, name)

    def _names(self) -> list[str]:
        if self._directory is None:
            return []
        try:
            found = sorted(self._directory.glob("*.sql"))
        except OSError:
            return []
        return [
            each.stem for each in found if _NAME.match(each.stem) and each.stem != NONE and each.is_file()
        ]

    def _chosen(self, name: str | None) -> Template | None:
        if name == NONE:
            return None
        if name is None:
            return self._read(DEFAULT) if DEFAULT in self._names() else None
        return self._read(name)

    def _read(self, name: str) -> Template:
        what = f"The template {name}"
        if self._directory is None:
            right = "The operator names a directory of them with SANDBOX_TEMPLATES_DIR."
            raise DoesNotFit(what, "there are no templates", right)
        if not _NAME.match(name):
            right = "A name is 1 to 63 letters, digits, - and _, such as shop for the file shop.sql."
            raise DoesNotFit(what, "that is no name of one", right)
        path = self._directory / f"{name}.sql"
        if not path.is_file():
            known = self._names()
            right = (
                f"There is {listed(known[:_SHOWN])}." if known else "There is none in SANDBOX_TEMPLATES_DIR."
            )
            raise DoesNotFit(what, "there is none with this name", right)
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            problem = f"its file can't be read: {error.strerror}"
            raise DoesNotFit(what, problem, "The operator of the bot must look at it.") from error
        return self._taken(name, content)

    def _taken(self, name: str, content: bytes) -> Template:
        empty = Template(name, (), self._within)
        if len(content) > MOST_BYTES:
            problem = f"it is larger than {MOST_BYTES // 1024 // 1024} MiB"
            raise DoesNotFit(f"The template {name}.sql", problem, "Take fewer rows into it.")
        try:
            # NUL is in no text of PostgreSQL's; what pg_dump writes in its own format has some.
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise empty.does_not_fit(line, "it is no text in UTF-8", _PLAIN) from None
        if "\0" in text:
            raise empty.does_not_fit(text.count("\n", 0, text.index("\0")) + 1, "it has a NUL in it", _PLAIN)
        try:
            statements = [each for each in divide(text) if not is_left_out(each)]
        except Problem as error:
            raise empty.does_not_fit(error.line, error.problem, error.right) from None
        return Template(name, statements, self._within)


_PLAIN = "A template is plain SQL: pg_dump --format=plain --encoding=UTF8."
