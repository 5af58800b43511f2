"""Divides SQL into tokens, as PostgreSQL and psql do; see PostgreSQL's documentation, "Lexical Structure"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """The kinds of tokens that matter here."""

    NAME = "name"
    """A word or a name in double quotes."""
    TEXT = "text"
    BODY = "body"
    """A text between dollars, such as the body of a function."""
    OTHER = "other"


class Token(NamedTuple):
    """One token; spaces and comments are none."""

    kind: Kind
    value: str
    begin: int
    end: int

    @property
    def word(self) -> str:
        """The name as PostgreSQL takes it: without quotes, or in lower case. Other tokens as they are."""
        if self.kind is not Kind.NAME:
            return self.value
        return self.value[1:-1].replace('""', '"') if self.value[0] == '"' else self.value.lower()

    @property
    def keyword(self) -> str:
        """The same; "" for a name in quotes, which is never a keyword."""
        return "" if self.value[0] == '"' else self.word


class Unended(Exception):
    """A text, a name or a comment that begins at `position` has no end."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(what, position)
        self.what = what
        self.position = position


_LETTER = r"A-Za-z_\u0080-\U0010ffff"
_TOKEN = re.compile(
    rf"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<text>[eE]'(?:[^'\\]+|''|\\.)*'|(?:[bBxXnN]|[uU]&)?'(?:[^']+|'')*')
    | (?P<name>"(?:[^"]+|"")*"|[{_LETTER}][{_LETTER}0-9$]*)
    | (?P<number>[0-9][0-9A-Za-z_.]*)
    | (?P<dollar>\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_KINDS = {"text": Kind.TEXT, "name": Kind.NAME, "number": Kind.OTHER, "other": Kind.OTHER}
_UNENDED = {"'": "text", '"': "name"}


def tokens(sql: str, begin: int = 0) -> Iterator[Token]:
    """Yield the tokens from `begin` on. Raises `Unended`."""
    at = begin
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        assert match is not None  # noqa: S101 (`other` takes whatever is left)
        at, group = match.end(), str(match.lastgroup)
        if group == "space":
            continue
        if group == "comment":
            at = _end_of_comment(sql, match.start())
        elif group == "dollar":
            at = sql.find(match[0], match.end()) + len(match[0])
            if at < match.end() + len(match[0]):
                raise Unended("text", match.start())
            yield Token(Kind.BODY, sql[match.start() : at], match.start(), at)
        elif (what := _UNENDED.get(match[0])) is not None:
            raise Unended(what, match.start())
        else:
            yield Token(_KINDS[group], match[0], match.start(), at)


def _end_of_comment(sql: str, begin: int) -> int:
    depth = 0
    for match in _COMMENT.finditer(sql, begin):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    raise Unended("comment", begin)
