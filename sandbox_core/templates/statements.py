"""Divides a template into statements with their lines, as psql does, with the data of COPY."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .tokens import Kind, Token, Unended, tokens

_META = re.compile(r"\\(?P<command>[A-Za-z!?.]*)[^\n]*")
_PASSED_OVER = frozenset({"restrict", "unrestrict"})
"""What newer versions of pg_dump write, so that psql takes no other such line from the file."""
_END_OF_DATA = re.compile(r"^\\\.\r?$", re.MULTILINE)
_SPACE = re.compile(r"\s*")
_ROUTINES = frozenset({"function", "procedure"})


class Problem(Exception):
    """Something in a template that is not taken: where, what is wrong with it, and what would be right."""

    def __init__(self, line: int, problem: str, right: str) -> None:
        super().__init__(line, problem, right)
        self.line = line
        self.problem = problem
        self.right = right


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, without its semicolon."""

    line: int
    sql: str
    tokens: tuple[Token, ...]
    """With their positions in `sql`."""
    data: str | None = None
    """The lines of a COPY from standard input."""
    data_line: int = 0

    def keywords(self, count: int) -> tuple[str, ...]:
        """Return the first so many tokens, keywords in lower case; "" where there are no more."""
        found = tuple(token.keyword for token in self.tokens[:count])
        return found + ("",) * (count - len(found))


def divide(text: str) -> Iterator[Statement]:
    """Yield the statements. Raises `Problem`."""
    at, line, seen = 0, 1, 0
    while True:
        at = _behind_meta(text, at)
        try:
            found = _next(text, at)
        except Unended as error:
            problem = f"the {error.what} that begins here has no end"
            raise Problem(_line(text, error.position), problem, "End it.") from None
        if found is None:
            return
        begin, end, after, parts = found
        line, seen = line + text.count("\n", seen, begin), begin
        sql = text[begin:end]
        moved = tuple(part._replace(begin=part.begin - begin, end=part.end - begin) for part in parts)
        data, data_line = None, 0
        if _reads_data(parts):
            data, data_line, after = _data(text, after, line)
        if parts:
            yield Statement(line, sql, moved, data, data_line)
        at = after


def _next(text: str, at: int) -> tuple[int, int, int, list[Token]] | None:
    """Return where the next statement begins and ends, where the text goes on, and its tokens."""
    parts: list[Token] = []
    parentheses, blocks = 0, 0
    for token in tokens(text, at):
        if token.value == ";" and not parentheses and not blocks:
            begin = parts[0].begin if parts else token.begin
            return begin, token.begin, token.end, parts
        if token.value == "\\" and not parts:
            # A line of psql's that comes after a comment.
            return token.begin, token.begin, _behind_meta(text, token.begin), []
        parts.append(token)
        if token.value == "(":
            parentheses += 1
        elif token.value == ")":
            parentheses = max(0, parentheses - 1)
        elif token.kind is Kind.NAME:
            blocks = _blocks(parts, blocks)
    if not parts:
        return None
    return parts[0].begin, parts[-1].end, len(text), parts


def _blocks(parts: list[Token], blocks: int) -> int:
    """Return how deep in the blocks of a body without quotes: BEGIN ATOMIC has statements in it."""
    word = parts[-1].keyword
    if word not in {"begin", "case", "end"} or not _makes_routine(parts):
        return blocks
    if word == "end":
        return max(0, blocks - 1)
    return blocks + 1 if blocks or word == "begin" else 0


def _makes_routine(parts: list[Token]) -> bool:
    words = [part.keyword for part in parts[:4]]
    return words[0] == "create" and (
        words[1] in _ROUTINES
        or (words[1:3] == ["or", "replace"] and words[3:4] != [] and words[3] in _ROUTINES)
    )


def _behind_meta(text: str, at: int) -> int:
    """Return where the text goes on behind lines of psql's that mean nothing here."""
    while True:
        space = _SPACE.match(text, at)
        at = at if space is None else space.end()
        match = _META.match(text, at)
        if match is None:
            return at
        if match["command"] not in _PASSED_OVER:
            problem = f"\\{match['command'] or match[0][1:2]} is a command of psql, and no SQL"
            raise Problem(_line(text, at), problem, "Leave it out; for pg_dump: without --create.")
        at = match.end()


def _reads_data(parts: list[Token]) -> bool:
    words = [part.keyword for part in parts]
    return words[:1] == ["copy"] and any(pair == ("from", "stdin") for pair in itertools.pairwise(words))


def _data(text: str, at: int, line: int) -> tuple[str, int, int]:
    """Return the data behind a COPY, the line where it begins, and where the text goes on."""
    begin = text.find("\n", at) + 1
    end = _END_OF_DATA.search(text, begin) if begin else None
    if end is None:
        raise Problem(line, "the data of this COPY has no end", "End it with a line that is only \\. .")
    return text[begin : end.start()], _line(text, begin), end.end()


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
