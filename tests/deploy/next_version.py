"""A next version of the project: a copy of its code with one more migration, which the changed code needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.deploy.tools import ROOT

VERSION = "0.2.0"

# What a release typically brings: a column, a table, an index, a function with another argument, more in a
# view and in a notification. All of it follows the rule that tests/migrations/additive.py checks.
_MIGRATION = """\
-- migrate:up

ALTER TABLE sandboxes ADD COLUMN region text NOT NULL DEFAULT 'eu';
ALTER TABLE sandbox_guild_mapping ADD COLUMN note text;
CREATE INDEX idx_sandboxes_region ON sandboxes (region);

CREATE TABLE sandbox_layouts (
    schema_name text PRIMARY KEY,
    layout      text NOT NULL
);

CREATE FUNCTION create_sandbox_schema(id_part text, layout text) RETURNS text
LANGUAGE sql AS $$
    INSERT INTO sandbox_layouts VALUES (sandbox_schema_name(id_part), layout);
    SELECT create_sandbox_schema(id_part);
$$;

CREATE OR REPLACE VIEW sandbox_routes AS
    SELECT mapping.guild_id, mapping.sandbox_id, sandbox.expires_at, sandbox.region
    FROM sandbox_guild_mapping AS mapping
    JOIN sandboxes AS sandbox ON sandbox.id = mapping.sandbox_id
    WHERE sandbox.status = 'running';

CREATE OR REPLACE FUNCTION notify_sandbox_route(changed_guild_id text) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT pg_notify('sandbox_routes', json_build_object(
        'guild_id', changed_guild_id,
        'sandbox_id', route.sandbox_id,
        'expires_at', extract(epoch FROM route.expires_at)::double precision,
        'region', route.region
    )::text)
    FROM (VALUES (1)) AS always
    LEFT JOIN sandbox_routes AS route ON route.guild_id = changed_guild_id;
$$;

-- migrate:down

DROP FUNCTION create_sandbox_schema(text, text);
DROP TABLE sandbox_layouts;
"""

_CHANGES = {
    "bot/sandbox_bot/__init__.py": ('__version__ = "0.1.0"', f'__version__ = "{VERSION}"'),
    "sandbox_core/namespaces/postgres.py": (
        "SELECT create_sandbox_schema($1)",
        "SELECT create_sandbox_schema($1, 'small')",
    ),
}


def make_next_version(directory: Path) -> Path:
    """The folder to run it in, below `directory`."""
    copy = directory / "next"
    for name in ("bot", "cogs", "sandbox_core", "migrations"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "migrations" / "20991231000000_next_version.sql").write_text(_MIGRATION)
    for name, (old, new) in _CHANGES.items():
        source = (copy / name).read_text(encoding="utf-8")
        assert source.count(old) == 1, f"{name} has changed: {old}"
        (copy / name).write_text(source.replace(old, new))
    return copy


def python_path(code: Path) -> str:
    """Where Python finds that version's packages, before the installed ones."""
    return os.pathsep.join(str(code / folder) for folder in ("bot", "cogs", "."))
