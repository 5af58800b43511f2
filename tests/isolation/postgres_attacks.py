"""More attacks on PostgreSQL, which only tests may try: one that went through could hurt a live server."""

from __future__ import annotations

from sandbox_core.isolation.attacks import denied, every, possible
from sandbox_core.isolation.postgres_attacks import POSTGRES as SAFE

_NO_RIGHT, _OFF, _CANCELLED = "42501", "55000", "57014"

OTHERS = (
    *denied(
        _NO_RIGHT,
        ("change the catalogue", "UPDATE pg_class SET relowner = relowner"),
        ("write a file", "SELECT lo_export({own_lob}, '/tmp/x')"),
        ("write a file with COPY", "COPY communities TO '/tmp/x'"),
        ("run a program", "COPY communities TO PROGRAM 'cat'"),
        ("drop what the bot owns", "DROP OWNED BY sandbox"),
        ("a database", "CREATE DATABASE x"),
        ("drop the database", "DROP DATABASE sandbox"),
        ("the server's settings", "ALTER SYSTEM SET max_connections = 1"),
        (
            "a subscription",
            "CREATE SUBSCRIPTION s CONNECTION 'dbname=sandbox' PUBLICATION p WITH (connect = false)",
        ),
        ("a tablespace", "CREATE TABLESPACE t LOCATION '/tmp'"),
        ("a checkpoint", "CHECKPOINT"),
        ("end the bot's session", "SELECT pg_terminate_backend({bot_pid})"),
        ("cancel the bot's statement", "SELECT pg_cancel_backend({bot_pid})"),
        ("reload", "SELECT pg_reload_conf()"),
        ("rotate the log", "SELECT pg_rotate_logfile()"),
        ("switch the WAL", "SELECT pg_switch_wal()"),
        ("a restore point", "SELECT pg_create_restore_point('x')"),
        ("reset statistics", "SELECT pg_stat_reset()"),
        ("a replication slot", "SELECT pg_create_physical_replication_slot('x')"),
        ("a logical replication slot", "SELECT pg_create_logical_replication_slot('x', 'pgoutput')"),
        ("a replication origin", "SELECT pg_replication_origin_create('x')"),
        ("begin a backup", "SELECT pg_backup_start('x')"),
        ("memory of the backends into the log", "SELECT pg_log_backend_memory_contexts({bot_pid})"),
    ),
    *denied(_OFF, ("outlive the session", "BEGIN", "PREPARE TRANSACTION 'x'")),
    *denied(_CANCELLED, ("a statement without end", "SELECT pg_sleep(60)")),
    *possible(
        "NOTIFY and advisory locks are the database's: sandboxes can disturb each other's, not the bot's.",
        ("an advisory lock of the session", "SELECT pg_advisory_lock(1)"),
    ),
    *possible(
        "What a sandbox makes takes room on the server's disk, and goes with the sandbox.",
        ("a big table", "CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)"),
    ),
    *possible(
        "Large objects are not measured, and what is in a locked table counts as it did before.",
        ("a large object", "SELECT lo_create(0)"),
    ),
    *possible(
        "A session of a full sandbox may lift that it is read-only, to make room; what it writes is measured "
        "and told, and goes with the sandbox.",
        ("no read-only session", "SET default_transaction_read_only = off"),
    ),
    *possible(
        "A role may change its own defaults and password; a rotation sets both again.",
        ("no read-only sessions", "ALTER ROLE {own} SET default_transaction_read_only = off"),
    ),
)
LAST = possible(
    "A role may change its own defaults and password; a rotation sets both again.",
    ("a password of its own", "ALTER ROLE {own} PASSWORD 'chosen'"),
)
"""At the end: the others log in with the first password."""
POSTGRES = (*every(SAFE), *OTHERS, *LAST)
