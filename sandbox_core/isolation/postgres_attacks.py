"""Attacks on PostgreSQL with a sandbox's own login, none of which could hurt a live server.

Each is tried in a transaction that is undone, so one that goes through changes nothing. `{bot}`, `{database}`
and `{control}` are the names of the bot's role, of the sandboxes' database and of the bot's own, as they are
written in a statement. `LOGIN user database` is an attempt to log in, with the sandbox's password.
"""

from __future__ import annotations

from .attacks import Table, denied, nothing, possible

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_NO_RIGHT, _NO_TABLE, _NO_SUCH, _NEVER = "42501", "42P01", "42704", "0A000"
_NO_DATABASE, _NO_ENTRY, _NO_PASSWORD, _NO_FILE = "3D000", "28000", "28P01", "58P01"

READING = denied(
    _NO_RIGHT,
    ("read a table", "SELECT * FROM {other}.communities"),
    ("count rows", "SELECT count(*) FROM {other}.profiles"),
    ("read with TABLE", "TABLE {other}.badges"),
    ("look at a sequence", "SELECT last_value FROM {other}.communities_id_seq"),
    ("explain with ANALYZE", "EXPLAIN ANALYZE SELECT * FROM {other}.communities"),
    ("a view on it", "CREATE VIEW spy AS SELECT * FROM {other}.communities"),
    ("a materialized view on it", "CREATE MATERIALIZED VIEW spy AS SELECT * FROM {other}.communities"),
    ("a copy of it", "CREATE TABLE spy AS SELECT * FROM {other}.communities"),
    ("its form", "CREATE TABLE spy (LIKE {other}.communities)"),
    ("inherit from it", "CREATE TABLE spy () INHERITS ({other}.communities)"),
    ("refer to it", "CREATE TABLE spy (c bigint REFERENCES {other}.communities (id))"),
    ("as XML", "SELECT query_to_xml('SELECT * FROM {other}.communities', true, false, '')"),
    ("a table as XML", "SELECT table_to_xml('{other}.communities', true, false, '')"),
    ("a schema as XML", "SELECT schema_to_xml('{other}', true, false, '')"),
    ("call its function", "SELECT {other}.secret()"),
    (
        "in a function of mine",
        (
            "CREATE FUNCTION spy() RETURNS SETOF text LANGUAGE plpgsql AS "
            "$$BEGIN RETURN QUERY SELECT name FROM {other}.communities; END$$"
        ),
        "SELECT spy()",
    ),
    ("in a DO block", "DO $$BEGIN PERFORM * FROM {other}.communities; END$$"),
    ("with a cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM {other}.communities"),
    ("prepared", "PREPARE spy AS SELECT * FROM {other}.communities"),
    ("its large object", "SELECT lo_get({other_lob})"),
    ("passwords", "SELECT rolpassword FROM pg_authid"),
    ("passwords again", "SELECT passwd FROM pg_shadow"),
    ("statistics of values", "SELECT stanumbers1 FROM pg_statistic"),
    ("large objects' pages", "SELECT * FROM pg_largeobject"),
    ("pg_hba.conf", "SELECT * FROM pg_hba_file_rules"),
    ("the configuration files", "SELECT * FROM pg_file_settings"),
    ("where the server's data is", "SHOW data_directory"),
    ("a file", "SELECT pg_read_file('PG_VERSION')"),
    ("a binary file", "SELECT pg_read_binary_file('PG_VERSION')"),
    ("a directory", "SELECT pg_ls_dir('.')"),
    ("a file's size", "SELECT pg_stat_file('PG_VERSION')"),
    ("the log's directory", "SELECT pg_ls_logdir()"),
    ("the WAL's directory", "SELECT pg_ls_waldir()"),
    ("a file as a large object", "SELECT lo_import('/etc/passwd')"),
    ("a file with COPY", "CREATE TABLE lines (line text)", "COPY lines FROM '/etc/passwd'"),
    ("a program's output", "CREATE TABLE words (line text)", "COPY words FROM PROGRAM 'id'"),
)
HIDDEN = (
    *denied(
        _NO_TABLE,
        ("through search_path", "SET search_path = {other}", "SELECT * FROM communities"),
        (
            "through search_path of my role",
            "ALTER ROLE {own} SET search_path = {other}, {own}",
            "SET search_path = {other}",
            "SELECT * FROM communities",
        ),
    ),
    *nothing(
        ("statistics view", "SELECT tablename FROM pg_stats WHERE schemaname = '{other}'"),
        (
            "what it is doing",
            (
                "SELECT query FROM pg_stat_activity WHERE usename = '{other}' "
                "AND query <> '<insufficient privilege>'"
            ),
        ),
        (
            "from where it is connected",
            "SELECT client_addr FROM pg_stat_activity WHERE usename = '{other}' AND client_addr IS NOT NULL",
        ),
        (
            "what the bot is doing",
            (
                "SELECT query FROM pg_stat_activity WHERE usename = {bot_text} "
                "AND query <> '<insufficient privilege>'"
            ),
        ),
        (
            "tables through information_schema",
            "SELECT * FROM information_schema.tables WHERE table_schema = '{other}'",
        ),
        (
            "columns through information_schema",
            "SELECT * FROM information_schema.columns WHERE table_schema = '{other}'",
        ),
    ),
)
WRITING = denied(
    _NO_RIGHT,
    ("insert", "INSERT INTO {other}.communities (guild_id, name) VALUES ('100000000000000009', 'x')"),
    ("update", "UPDATE {other}.communities SET name = 'x'"),
    ("delete", "DELETE FROM {other}.communities"),
    ("truncate", "TRUNCATE {other}.communities CASCADE"),
    ("merge", "MERGE INTO {other}.communities USING (VALUES (1)) AS v (i) ON true WHEN MATCHED THEN DELETE"),
    ("lock", "BEGIN", "LOCK TABLE {other}.communities IN ACCESS EXCLUSIVE MODE"),
    ("alter a table", "ALTER TABLE {other}.communities ADD COLUMN x int"),
    ("drop a table", "DROP TABLE {other}.communities CASCADE"),
    ("rename a table", "ALTER TABLE {other}.communities RENAME TO x"),
    ("take a table", "ALTER TABLE {other}.communities OWNER TO {own}"),
    (
        "a trigger on it",
        "CREATE FUNCTION pull() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$",
        "CREATE TRIGGER pull BEFORE INSERT ON {other}.communities FOR EACH ROW EXECUTE FUNCTION pull()",
    ),
    ("a policy on it", "CREATE POLICY p ON {other}.communities USING (true)"),
    ("a rule on it", "CREATE RULE r AS ON INSERT TO {other}.communities DO INSTEAD NOTHING"),
    ("an index on it", "CREATE INDEX ON {other}.communities (name)"),
    ("a table there", "CREATE TABLE {other}.x (i int)"),
    ("a function there", "CREATE FUNCTION {other}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("a type there", "CREATE TYPE {other}.t AS ENUM ('a')"),
    ("move my table there", "CREATE TABLE guest (i int)", "ALTER TABLE guest SET SCHEMA {other}"),
    ("drop its schema", "DROP SCHEMA {other} CASCADE"),
    ("rename its schema", "ALTER SCHEMA {other} RENAME TO x"),
    ("drop my own schema", "DROP SCHEMA {own} CASCADE"),
    ("rename my own schema", "ALTER SCHEMA {own} RENAME TO x"),
    ("take my own schema", "ALTER SCHEMA {own} OWNER TO {own}"),
    ("mark my own schema as another's", "COMMENT ON SCHEMA {own} IS 'x'"),
    ("a schema", "CREATE SCHEMA x"),
    ("a table in public", "CREATE TABLE public.x (i int)"),
    ("a function in public", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("a table in pg_catalog", "CREATE TABLE pg_catalog.x (i int)"),
    ("delete its large object", "SELECT lo_unlink({other_lob})"),
    ("write its large object", "SELECT lo_put({other_lob}, 0, 'x')"),
    ("take its large object", "ALTER LARGE OBJECT {other_lob} OWNER TO {own}"),
)
ROLES = denied(
    _NO_RIGHT,
    ("become the neighbour", "SET ROLE {other}"),
    ("become the bot", "SET ROLE {bot}"),
    ("become a superuser", "SET ROLE {superuser}"),
    ("become a predefined role", "SET ROLE pg_read_all_data"),
    ("change the session's user", "SET SESSION AUTHORIZATION {other}"),
    ("become the session's superuser", "SET SESSION AUTHORIZATION {superuser}"),
    ("its password", "ALTER ROLE {other} PASSWORD 'x'"),
    ("the bot's password", "ALTER ROLE {bot} PASSWORD 'x'"),
    ("stop its logins", "ALTER ROLE {other} NOLOGIN"),
    ("its settings", "ALTER ROLE {other} SET search_path = {own}"),
    ("everybody's settings", "ALTER ROLE ALL SET search_path = {own}"),
    ("the database's settings", "ALTER DATABASE {database} SET search_path = {own}"),
    ("superuser", "ALTER ROLE {own} SUPERUSER"),
    ("make roles", "ALTER ROLE {own} CREATEROLE"),
    ("make databases", "ALTER ROLE {own} CREATEDB"),
    ("replication", "ALTER ROLE {own} REPLICATION"),
    ("pass row security", "ALTER ROLE {own} BYPASSRLS"),
    ("more connections", "ALTER ROLE {own} CONNECTION LIMIT -1"),
    ("live longer", "ALTER ROLE {own} VALID UNTIL 'infinity'"),
    ("another mark", "COMMENT ON ROLE {own} IS 'x'"),
    ("a new role", "CREATE ROLE x LOGIN"),
    ("drop its role", "DROP ROLE {other}"),
    ("join the bot", "GRANT {bot} TO {own}"),
    ("read everything", "GRANT pg_read_all_data TO {own}"),
    ("signal everybody", "GRANT pg_signal_backend TO {own}"),
    ("run programs", "GRANT pg_execute_server_program TO {own}"),
    ("let the neighbour in", "GRANT {own} TO {other}"),
    ("what it owns", "REASSIGN OWNED BY {other} TO {own}"),
    ("drop what it owns", "DROP OWNED BY {other}"),
    ("its default privileges", "ALTER DEFAULT PRIVILEGES FOR ROLE {other} GRANT SELECT ON TABLES TO {own}"),
    ("a table as a gift to the bot", "CREATE TABLE gift (i int)", "ALTER TABLE gift OWNER TO {bot}"),
    (
        "a function as a gift to the bot",
        "CREATE FUNCTION gift() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "ALTER FUNCTION gift() OWNER TO {bot}",
    ),
    ("rights on its table", "GRANT SELECT ON {other}.communities TO {own}"),
)
SERVER = (
    *denied(
        _NO_RIGHT,
        ("a wrapper of foreign data", "CREATE FOREIGN DATA WRAPPER x"),
        ("a language", "CREATE LANGUAGE x HANDLER plpgsql_call_handler"),
        ("a C function", "CREATE FUNCTION x() RETURNS int LANGUAGE c AS '/tmp/x.so', 'x'"),
        ("an internal function", "CREATE FUNCTION x() RETURNS int LANGUAGE internal AS 'pg_backend_pid'"),
        ("a library", "LOAD '/tmp/x.so'"),
        (
            "an event trigger",
            "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$",
            "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()",
        ),
        ("a publication", "CREATE PUBLICATION p FOR TABLE communities"),
        ("end the neighbour's session", "SELECT pg_terminate_backend({other_pid})"),
        ("cancel the neighbour's statement", "SELECT pg_cancel_backend({other_pid})"),
        ("log everything", "SET log_statement = 'all'"),
        ("skip triggers", "SET session_replication_role = replica"),
        ("more temporary files", "SET temp_file_limit = -1"),
        ("its database's comment", "COMMENT ON DATABASE {database} IS 'x'"),
    ),
    *denied(_NEVER, ("another name of my role", "ALTER ROLE {own} RENAME TO x")),
)
REMAINING = (
    *possible(
        "Names in the catalogue are readable by every role: schemas, roles, tables, columns.",
        ("names of schemas", "SELECT nspname FROM pg_namespace WHERE nspname = '{other}'"),
        ("names of roles", "SELECT rolname FROM pg_roles WHERE rolname = '{other}'"),
        ("names of tables", "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('{other}')"),
        ("names of databases", "SELECT datname FROM pg_database"),
        ("who is connected", "SELECT usename FROM pg_stat_activity WHERE usename = '{other}'"),
        ("which locks are held", "SELECT relation FROM pg_locks"),
    ),
    *possible(
        "The text of functions and views is in the catalogue too: a secret does not belong there.",
        ("a function's text", "SELECT prosrc FROM pg_proc WHERE pronamespace = to_regnamespace('{other}')"),
    ),
    *possible(
        "NOTIFY and advisory locks are the database's: sandboxes can disturb each other's, not the bot's.",
        ("an advisory lock", "SELECT pg_try_advisory_xact_lock(1)"),
        ("listen to a channel", "LISTEN other_channel"),
        ("notify a channel", "NOTIFY other_channel, 'x'"),
    ),
    *possible(
        "A session may lift `statement_timeout`; the bot ends it for what takes too long.",
        ("no limit of time in this session", "SET statement_timeout = 0"),
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
    *possible(
        "What a sandbox makes takes room on the server's disk, and goes with the sandbox.",
        ("a temporary table", "CREATE TEMPORARY TABLE t AS SELECT 1"),
    ),
)
_ELSEWHERE = denied(
    # The bot's own database may be on another server.
    (_NO_RIGHT, _NO_DATABASE),
    ("the size of the bot's database", "SELECT pg_database_size({control_text})"),
    ("let everybody into the bot's database", "GRANT CONNECT ON DATABASE {control} TO PUBLIC"),
)
_OF_SOME_VERSIONS = (
    *denied(
        (_NO_RIGHT, _NO_TABLE),
        ("what would be the bot's tables", "SELECT * FROM public.sandboxes"),
    ),
    *denied(
        (_NO_RIGHT, _NO_SUCH),
        ("the places kept for the bot", "GRANT pg_use_reserved_connections TO {own}"),
    ),
    *denied(
        (_NO_RIGHT, _NEVER, _NO_FILE),
        ("an extension", "CREATE EXTENSION hstore SCHEMA {own}"),
    ),
)
LOGINS = denied(
    (_NO_RIGHT, _NO_ENTRY, _NO_DATABASE, _NO_PASSWORD),
    ("into the bot's database", "LOGIN {own} {control}"),
    ("into the database postgres", "LOGIN {own} postgres"),
    ("into the template of databases", "LOGIN {own} template1"),
    ("as the neighbour", "LOGIN {other} {database}"),
    ("as the bot", "LOGIN {bot} {database}"),
    ("as the bot into its database", "LOGIN {bot} {control}"),
    ("as a superuser", "LOGIN {superuser} postgres"),
)
POSTGRES: Table = {
    "reading": (*READING, *HIDDEN),
    "writing": WRITING,
    "roles and rights": ROLES,
    "the server": (*SERVER, *_ELSEWHERE, *_OF_SOME_VERSIONS),
    "logging in": LOGINS,
    "within its rights": REMAINING,
}
