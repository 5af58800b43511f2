"""The rights that `doctor` asks for are those that the project's own SQL needs: no table can be forgotten."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import sandbox_bot
import sandbox_cogs
import sandbox_core
import sandbox_gateway
from sandbox_bot.doctor.postgres_rights import FUNCTIONS, TABLES
from tests.conftest import ROOT

_SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b")
_NOT_THE_BOTS = ("doctor", "embedded", "tour")
"""Parts of `sandbox_bot` whose SQL is not the running bot's."""


def test_every_table_and_function_of_the_sql_is_asked_for() -> None:
    migrations = "\n".join(_up(path) for path in sorted((ROOT / "migrations").glob("*.sql")))
    tables = set(re.findall(r"^CREATE (?:TABLE|VIEW) (\w+)", migrations, re.MULTILINE))
    assert set(TABLES) == tables
    needed: dict[str, set[str]] = defaultdict(set)
    # Triggers and functions run with the rights of whoever changes a table.
    for statement in (
        *_statements(),
        *re.findall(r"AS \$\$(.*?)^\$\$", migrations, re.MULTILINE | re.DOTALL),
    ):
        for table, right in _rights(statement, tables):
            needed[table].add(right)
    assert {table: set(rights) for table, rights in TABLES.items()} == needed


def test_every_function_is_asked_for() -> None:
    migrations = "\n".join(_up(path) for path in sorted((ROOT / "migrations").glob("*.sql")))
    made = re.findall(
        r"^CREATE FUNCTION (\w+)\(([^)]*)\) RETURNS (\w+)|^CREATE FUNCTION (\w+)\(([^)]*)\)\n",
        migrations,
        re.MULTILINE,
    )
    # A trigger's function is not called by anybody.
    signatures = {
        f"{name or name_2}({(arguments or arguments_2).split(' ')[-1]})"
        for name, arguments, returns, name_2, arguments_2 in made
        if returns != "trigger"
    }
    assert set(FUNCTIONS) == signatures


def _up(migration: Path) -> str:
    return migration.read_text(encoding="utf-8").split("-- migrate:down")[0]


def _statements() -> Iterator[str]:
    for package in (sandbox_core, sandbox_cogs, sandbox_gateway, sandbox_bot):
        top = Path(str(package.__file__)).parent
        for path in sorted(top.rglob("*.py")):
            if package is sandbox_bot and path.relative_to(top).parts[0] in _NOT_THE_BOTS:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = _text(node)
                if _SQL.search(text):
                    yield text


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else " … " for part in node.values)
    return ""


def _rights(sql: str, tables: set[str]) -> Iterator[tuple[str, str]]:
    for table in tables:
        if re.search(rf"\b(FROM|JOIN) (ONLY )?{table}\b", sql) and not re.search(
            rf"\bDELETE FROM {table}\b", sql
        ):
            yield table, "SELECT"
            # Locking rows takes the right to change them.
            if re.search(r"\bFOR (NO KEY )?UPDATE\b", sql):
                yield table, "UPDATE"
        if re.search(rf"\bINSERT INTO {table}\b", sql):
            yield table, "INSERT"
            if re.search(r"\bDO UPDATE\b", sql):
                yield table, "UPDATE"
            if re.search(r"\b(RETURNING|ON CONFLICT)\b", sql):
                yield table, "SELECT"
        if re.search(rf"\bUPDATE {table}\b", sql):
            yield table, "UPDATE"
            yield table, "SELECT"
        if re.search(rf"\bDELETE FROM {table}\b", sql):
            yield table, "DELETE"
            yield table, "SELECT"
