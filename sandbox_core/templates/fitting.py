"""Makes the statements of a template fit one sandbox: what is run, what is left out, and what is refused.

What pg_dump writes about one database is about its owners, its settings and its schema `public`. A sandbox
has one schema and one role, so the first two mean nothing there, and `public` means the sandbox's schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sandbox_core.subjects import is_schema_name

from .statements import Problem, Statement
from .tokens import Kind, Token, Unended, tokens

DEFAULT_TABLES = ("badges", "profiles", "communities")
"""What each sandbox begins with, unless its template makes one of these itself."""

_OTHER_SCHEMA = "Dump one schema (pg_dump --schema=…), and without --create: a sandbox has one."
_LEAVE_OUT = "Leave it out: the template runs as the sandbox's own role, in the sandbox's schema."
_ONE_TRANSACTION = "Leave it out: the whole template is one transaction."
_EXTENSIONS = (
    "Leave it out. Where a sandbox needs one, an administrator installs it in the sandboxes' database, in a "
    "schema that is always found."
)
_LARGE_OBJECTS = (
    "All sandboxes share these numbers. Dump without them: pg_dump --no-large-objects (before 16 --no-blobs)."
)

# SET of these stays: they decide how the statements that follow are read. The server has the limits.
_KEPT_SETTINGS = frozenset({"check_function_bodies", "xmloption", "client_min_messages"})
_FIXED_SETTINGS = {
    "client_encoding": {"utf8", "utf-8", "unicode"},
    "standard_conforming_strings": {"on", "true"},
}
_REFUSED_SETTINGS = frozenset({"role", "session"})

# The first words of statements that mean nothing in a sandbox.
_LEFT_OUT = (
    ("grant",),
    ("revoke",),
    ("alter", "default", "privileges"),
    ("comment", "on", "extension"),
    ("comment", "on", "database"),
    ("security", "label"),
    ("begin",),
    ("start", "transaction"),
    ("commit",),
    ("end",),
)
_REFUSED = {
    ("rollback",): _ONE_TRANSACTION,
    ("abort",): _ONE_TRANSACTION,
    ("savepoint",): _ONE_TRANSACTION,
    ("release",): _ONE_TRANSACTION,
    ("prepare",): _ONE_TRANSACTION,
    ("reset",): _LEAVE_OUT,
    ("discard",): _LEAVE_OUT,
    ("reassign",): _LEAVE_OUT,
    ("load",): _LEAVE_OUT,
    ("checkpoint",): _LEAVE_OUT,
    ("import", "foreign"): _LEAVE_OUT,
    ("create", "extension"): _EXTENSIONS,
}
_OUTSIDE = frozenset(
    {"database", "role", "user", "group", "tablespace", "system", "publication", "subscription", "server"}
    | {"event", "language", "extension", "owned", "foreign", "access"}
)
"""What CREATE, ALTER and DROP are not for: it is of the whole server or database."""
_NUMBERING = frozenset({"nextval", "currval", "setval", "to_regclass"})
"""Functions that take a table's or sequence's name as a text."""
_ROUTINES = frozenset({"function", "procedure"})


@dataclass(frozen=True, slots=True)
class CopyInto:
    """The table and the columns of a COPY from standard input; no columns mean all."""

    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One statement as it is run in a sandbox's schema."""

    line: int
    sql: str
    copy: CopyInto | None = None
    data: str = ""
    data_line: int = 0


def is_left_out(statement: Statement) -> bool:
    """Return whether the statement means nothing in a sandbox. Raises `Problem` for what is refused."""
    words = statement.keywords(4)
    if any(words[: len(each)] == each for each in _LEFT_OUT):
        return True
    for each, right in _REFUSED.items():
        if words[: len(each)] == each and not _is_of_the_server(statement):
            raise Problem(statement.line, f"{' '.join(each).upper()} is not for templates", right)
    if words[0] == "set":
        return _setting(statement)
    if words[:1] == ("select",) and _sets_search_path(statement):
        return True
    if words[0] == "select" and _numbers_large_object(statement):
        raise Problem(statement.line, "it makes a large object with a number of its own", _LARGE_OBJECTS)
    if words[0] in {"create", "alter", "drop", "comment"}:
        return _of_schema_or_outside(statement)
    return False


def _is_of_the_server(statement: Statement) -> bool:
    """Whether it is an extension that every database has."""
    return "plpgsql" in {token.word for token in statement.tokens} and statement.keywords(2)[0] == "create"


def _setting(statement: Statement) -> bool:
    words = [word for word in statement.keywords(5) if word != "local"]
    if words[1] == "session" and words[2] not in {"authorization", "characteristics"}:
        del words[1]
    name = words[1]
    if name in _REFUSED_SETTINGS:
        raise Problem(statement.line, f"SET {name.upper()} is not for templates", _LEAVE_OUT)
    if name == "search_path":
        schemas = {token.word.strip("'") for token in statement.tokens[2:] if token.kind is not Kind.OTHER}
        if others := sorted(each for each in schemas if not _may_be_searched(each)):
            raise Problem(statement.line, f"it sets the search path to {others[0]}", _OTHER_SCHEMA)
    if name in _FIXED_SETTINGS:
        value = statement.tokens[-1].word.strip("'").lower()
        if value not in _FIXED_SETTINGS[name]:
            right = "Templates are in UTF-8, with standard_conforming_strings on: pg_dump --encoding=UTF8."
            raise Problem(statement.line, f"it sets {name} to {value}", right)
    return name not in _KEPT_SETTINGS


def _may_be_searched(schema: str) -> bool:
    return _is_own(schema) or schema in {"", "to", "default", "pg_catalog", "pg_temp", "$user"}


def _sets_search_path(statement: Statement) -> bool:
    words = [token.word for token in statement.tokens if token.word not in {"pg_catalog", "."}]
    return words[1:4] == ["set_config", "(", "'search_path'"]


def _numbers_large_object(statement: Statement) -> bool:
    """Whether it is what pg_dump writes for one. Each number is there once in the whole database."""
    words = [token.word for token in statement.tokens if token.word not in {"pg_catalog", "."}]
    return words[1:3] == ["lo_create", "("] and words[3:4] not in (["0"], ["'0'"])


def _of_schema_or_outside(statement: Statement) -> bool:
    words = statement.keywords(4)
    kind = words[1]
    if words[1:3] == ("or", "replace"):
        kind = words[3]
    elif kind == "on":
        kind = words[2]
    if kind == "extension" and _is_of_the_server(statement):
        return True
    if kind == "schema":
        names = [token.word for token in statement.tokens if token.keyword not in {"if", "not", "exists"}]
        name = "".join(names[3:4] if words[1] == "on" else names[2:3])
        if words[0] == "drop" or not _is_own(name):
            raise Problem(statement.line, f"it names the schema {name}", _OTHER_SCHEMA)
        return True
    if kind in _OUTSIDE and words[0] != "comment":
        raise Problem(statement.line, f"{words[0].upper()} {kind.upper()} reaches outside", _LEAVE_OUT)
    # Whatever it is of: everything is the sandbox's own role's.
    last = [token.keyword for token in statement.tokens[-3:-1]]
    return words[0] == "alter" and last == ["owner", "to"]


def _is_own(schema: str) -> bool:
    """Whether a template's name for a schema means the sandbox's: `public`, or that of another sandbox."""
    return schema == "public" or is_schema_name(schema)


def made_tables(statement: Statement) -> str | None:
    """Return the name of the table that the statement makes."""
    words = statement.keywords(4)
    if words[0] != "create" or "table" not in words:
        return None
    rest = [token.word for token in statement.tokens[words.index("table") + 1 :]]
    while rest[:1] and rest[0] in {"if", "not", "exists"}:
        del rest[0]
    return rest[2] if rest[1:2] == ["."] else rest[0] if rest else None


def fitted(statement: Statement, schema: str) -> Step:
    """Return the statement for this schema. Raises `Problem`."""
    if statement.keywords(1) == ("copy",):
        return Step(statement.line, "", _copy(statement), statement.data or "", statement.data_line)
    return Step(statement.line, _renamed(statement.sql, statement.tokens, schema))


def _copy(statement: Statement) -> CopyInto:
    words = [token.word for token in statement.tokens]
    right = "Write COPY table (columns) FROM stdin, without options, as pg_dump does."
    if statement.data is None:
        raise Problem(statement.line, "COPY reads from a file or a program here, or writes", right)
    rest = words[1:]
    if rest[1:2] == ["."]:
        if not _is_own(rest[0]):
            raise Problem(statement.line, f"it names the schema {rest[0]}", _OTHER_SCHEMA)
        del rest[:2]
    table = rest.pop(0)
    columns: list[str] = []
    if rest[:1] == ["("] and ")" in rest:
        end = rest.index(")")
        columns = [word for word in rest[1:end] if word != ","]
        del rest[: end + 1]
    if rest != ["from", "stdin"]:
        raise Problem(statement.line, "COPY has options here", right)
    return CopyInto(table, tuple(columns))


def _renamed(sql: str, parts: Sequence[Token], schema: str) -> str:
    """Return the SQL with the sandbox's schema where the template means that."""
    written, at = [], 0
    for position, new in _changes(parts, schema):
        part = parts[position]
        written += [sql[at : part.begin], new]
        at = part.end
    return "".join((*written, sql[at:]))


def _changes(parts: Sequence[Token], schema: str) -> Iterator[tuple[int, str]]:
    routine = any(part.keyword in _ROUTINES for part in parts[:4]) or parts[0].keyword == "do"
    searched = False
    for at, part in enumerate(parts):
        before, after = parts[max(0, at - 1)], parts[min(at + 1, len(parts) - 1)]
        match part.kind:
            case Kind.NAME if part.keyword == "search_path":
                searched = True
            case Kind.NAME if _is_own(part.word) and (
                (after.value == "." and before.value != ".") or searched
            ):
                yield at, schema
            case Kind.TEXT if searched and _is_own(part.value.strip("'")):
                yield at, f"'{schema}'"
            case Kind.TEXT if _names_relation(parts, at):
                yield at, _renamed_text(part.value, schema)
            case Kind.BODY if routine:
                yield at, _renamed_body(part.value, schema)
            case _:
                # What a path is set to is a list: TO, or =, and names with commas between them.
                if part.keyword != "to" and part.value not in {"=", ","}:
                    searched = False


def _names_relation(parts: Sequence[Token], at: int) -> bool:
    """Whether a text is the name of a table or a sequence, and not data."""
    before = [part.word for part in parts[max(0, at - 2) : at]]
    after = [part.word for part in parts[at + 1 : at + 4]]
    return (before[1:] == ["("] and before[0] in _NUMBERING) or (
        after[:2] == [":", ":"] and after[2:3] != [] and after[2].startswith("reg")
    )


def _renamed_text(text: str, schema: str) -> str:
    name, dot, rest = text[1:].partition(".")
    return f"'{schema}.{rest}" if dot and _is_own(name.strip('"')) else text


def _renamed_body(body: str, schema: str) -> str:
    fence = body[: body.index("$", 1) + 1]
    inner = body[len(fence) : -len(fence)]
    try:
        parts = list(tokens(inner))
    except Unended:
        # In a language with other texts than SQL's.
        return body
    return fence + (_renamed(inner, parts, schema) if parts else inner) + fence
