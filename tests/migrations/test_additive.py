"""Every migration leaves a schema on which the code of before runs, and the check of that notices others."""

from __future__ import annotations

import shutil
from pathlib import Path

import asyncpg
import pytest

import sandbox_bot.migrate
from sandbox_bot.migrate import migrate, migrations_dir
from tests.migrations.additive import Schema, breaks, schema_of

_FILES = sorted(migrations_dir().glob("*.sql"))


@pytest.fixture
def some_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, from which `migrate` takes the migrations."""
    monkeypatch.setattr(sandbox_bot.migrate, "migrations_dir", lambda: tmp_path)
    return tmp_path


async def test_the_old_code_runs_on_each_new_schema(empty_database_url: str, some_migrations: Path) -> None:
    before: Schema | None = None
    for path in _FILES:
        shutil.copy(path, some_migrations)
        await migrate(empty_database_url)
        connection = await asyncpg.connect(empty_database_url)
        try:
            after = await schema_of(connection)
        finally:
            await connection.close()
        assert after != before, f"{path.name} was not applied"
        if before is not None:
            up = path.read_text(encoding="utf-8").split("-- migrate:down")[0]
            assert breaks(before, after, up) == [], path.name
        before = after


_WORSE = {
    "DROP TABLE sandbox_notices": "sandbox_notices is gone: leave it",
    "DROP VIEW sandbox_routes": "sandbox_routes is gone: leave it",
    "ALTER TABLE sandboxes DROP COLUMN metadata": "sandboxes.metadata is gone: leave it",
    "ALTER TABLE sandboxes RENAME COLUMN owner TO holder": "instead of renaming it, add another",
    "ALTER TABLE sandboxes RENAME TO boxes": "sandboxes is gone",
    "ALTER TABLE sandbox_cleanup ALTER attempts TYPE bigint": "changes from integer to bigint",
    "ALTER TABLE sandboxes ADD COLUMN region text NOT NULL": "sandboxes.region is new and NOT NULL",
    "ALTER TABLE sandboxes ALTER discord_token_id SET NOT NULL": "becomes NOT NULL",
    "ALTER TABLE sandboxes ALTER created_at DROP DEFAULT": "loses its default",
    "ALTER TABLE sandboxes ADD CHECK (length(name) < 20)": "is new, and the old version's rows may break it",
    "CREATE UNIQUE INDEX ON sandboxes (owner)": "is new, and the old version's rows may break it",
    "ALTER TABLE sandboxes DROP CONSTRAINT ck_sandboxes_owner,"
    " ADD CONSTRAINT ck_sandboxes_owner CHECK (owner ~ '^9')": "say: -- widens ck_sandboxes_owner: why",
    "DROP FUNCTION drop_sandbox_schema(text)": "drop_sandbox_schema(text) is gone",
    "DROP FUNCTION sandbox_schema_exists(text);"
    " CREATE FUNCTION sandbox_schema_exists(text) RETURNS int RETURN 1": "returns integer now",
    "ALTER TYPE sandbox_status RENAME VALUE 'expired' TO 'over'": "value expired of sandbox_status is gone",
    "ALTER TYPE sandbox_status ADD VALUE 'paused'": "paused is a new value of sandbox_status",
}


@pytest.mark.parametrize(("change", "told"), _WORSE.items(), ids=range(len(_WORSE)))
async def test_what_would_stop_the_old_code_is_told(
    connection: asyncpg.Connection, change: str, told: str
) -> None:
    before = await schema_of(connection)
    await connection.execute(change)
    assert told in "\n".join(breaks(before, await schema_of(connection), change))


_HARMLESS = {
    "column": "ALTER TABLE sandboxes ADD COLUMN note text",
    "filled column with a rule": """
        ALTER TABLE sandboxes ADD COLUMN region text NOT NULL DEFAULT 'eu',
            ADD CONSTRAINT ck_sandboxes_region CHECK (region <> '')""",
    "index": "CREATE INDEX ON sandboxes (owner, created_at)",
    "table": """
        CREATE TABLE sandbox_labels (sandbox_id uuid REFERENCES sandboxes (id) ON DELETE CASCADE)""",
    "overload": """
        CREATE FUNCTION create_sandbox_schema(id_part text, more text) RETURNS text
            RETURN create_sandbox_schema(id_part)""",
    "view's column": """
        CREATE OR REPLACE VIEW sandbox_routes AS
            SELECT mapping.guild_id, mapping.sandbox_id, sandbox.expires_at, sandbox.owner
            FROM sandbox_guild_mapping AS mapping JOIN sandboxes AS sandbox ON sandbox.id = mapping.sandbox_id
            WHERE sandbox.status = 'running'""",
    "rule less": "ALTER TABLE sandboxes DROP CONSTRAINT ck_sandboxes_owner",
    "wider rule": """
-- widens ck_sandboxes_owner: whoever is not '' is not NULL
        ALTER TABLE sandboxes DROP CONSTRAINT ck_sandboxes_owner,
            ADD CONSTRAINT ck_sandboxes_owner CHECK (owner IS NOT NULL)""",
}


@pytest.mark.parametrize("change", _HARMLESS.values(), ids=_HARMLESS)
async def test_what_the_old_code_need_not_know_is_no_matter(
    connection: asyncpg.Connection, change: str
) -> None:
    before = await schema_of(connection)
    await connection.execute(change)
    assert breaks(before, await schema_of(connection), change) == []
