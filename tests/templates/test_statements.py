"""What a template's text is divided into, what is left out of it, and what is refused, with the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.templates.fitting import CopyInto, fitted, is_left_out
from sandbox_core.templates.statements import Problem, divide

SCHEMA = "sandbox_0a1b2c3d"
_ATOMIC = (
    "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; END"
)
_ROUTINE = (
    "CREATE FUNCTION public.f() RETURNS int SET search_path TO 'public', pg_temp AS $$ SELECT public.g() $$"
)


def _run(text: str) -> list[str]:
    """What is run of a template, as SQL."""
    return [fitted(each, SCHEMA).sql for each in divide(text) if not is_left_out(each)]


def _problem(text: str) -> Problem:
    with pytest.raises(Problem) as problem:
        [fitted(each, SCHEMA) for each in divide(text) if not is_left_out(each)]
    return problem.value


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        (" ;; -- nothing;\n /* ; /* nested; */ */ SELECT 1;", ["SELECT 1"]),
        ("SELECT 'a;''b', E'\\';', \"x;\"\"y\", $$;$$, $a$ ; $$ $a$;", None),
        ("CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2);", None),
        (f"{_ATOMIC}; SELECT 1;", [_ATOMIC, "SELECT 1"]),
        ("\\restrict abc'd\nSELECT 1;\n\n-- end\n\\unrestrict abc'd\n", ["SELECT 1"]),
        ("SELECT 1 /* one */ + 1;", ["SELECT 1 /* one */ + 1"]),
        ("", []),
        ("-- only a comment", []),
    ],
)
def test_statements_end_where_psql_ends_them(text: str, statements: list[str] | None) -> None:
    assert [each.sql for each in divide(text)] == ([text.rstrip(";")] if statements is None else statements)


def test_each_statement_knows_its_line() -> None:
    text = "\n-- one\nSELECT 1;\nCOPY public.t (a, b) FROM stdin;\n1\tx\n;\ty\n\\.\n\n  SELECT\n 2;"
    found = list(divide(text))
    assert [each.line for each in found] == [3, 4, 9]
    assert (found[1].data, found[1].data_line) == ("1\tx\n;\ty\n", 5)
    assert fitted(found[1], SCHEMA).copy == CopyInto("t", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("CREATE TABLE public.t (a public.mood)", f"CREATE TABLE {SCHEMA}.t (a {SCHEMA}.mood)"),
        ("INSERT INTO \"public\".t VALUES ('public.t')", f"INSERT INTO {SCHEMA}.t VALUES ('public.t')"),
        (
            "SELECT pg_catalog.setval('public.t_id_seq', 3, true)",
            f"SELECT pg_catalog.setval('{SCHEMA}.t_id_seq', 3, true)",
        ),
        (
            "ALTER TABLE ONLY public.t ALTER COLUMN id SET DEFAULT nextval('public.t_id_seq'::regclass)",
            f"ALTER TABLE ONLY {SCHEMA}.t ALTER COLUMN id SET DEFAULT nextval('{SCHEMA}.t_id_seq'::regclass)",
        ),
        (_ROUTINE, _ROUTINE.replace("public", SCHEMA)),
        ("COMMENT ON TABLE public.t IS 'of public.t'", f"COMMENT ON TABLE {SCHEMA}.t IS 'of public.t'"),
        ("CREATE TABLE sandbox_99999999.t ()", f"CREATE TABLE {SCHEMA}.t ()"),
        ("SELECT x.public.y FROM x", "SELECT x.public.y FROM x"),
        ("INSERT INTO t VALUES ($$public.t$$)", "INSERT INTO t VALUES ($$public.t$$)"),
        ("SET check_function_bodies = false", "SET check_function_bodies = false"),
        ("SELECT lo_create(0)", "SELECT lo_create(0)"),
    ],
)
def test_public_means_the_sandboxs_schema_and_data_stays(text: str, runs: str) -> None:
    assert _run(text + ";") == [runs]


@pytest.mark.parametrize(
    "text",
    [
        "SET statement_timeout = 0",
        "SET transaction_timeout = 0",
        "SET client_encoding = 'UTF8'",
        "SET standard_conforming_strings = on",
        "SET default_table_access_method = heap",
        "SET SESSION row_security = off",
        "SET search_path = public, pg_catalog",
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "CREATE SCHEMA public",
        "CREATE SCHEMA IF NOT EXISTS public",
        "CREATE SCHEMA sandbox_12345678",
        "COMMENT ON SCHEMA public IS 'standard public schema'",
        "ALTER SCHEMA public OWNER TO pg_database_owner",
        "ALTER TABLE public.t OWNER TO somebody",
        'ALTER FUNCTION public.f(x integer) OWNER TO "some body"',
        "ALTER TYPE public.mood OWNER TO somebody",
        "GRANT ALL ON TABLE public.t TO somebody",
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA public GRANT SELECT ON TABLES TO b",
        "CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog",
        "COMMENT ON EXTENSION plpgsql IS 'PL/pgSQL procedural language'",
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
    ],
)
def test_what_means_nothing_in_a_sandbox_is_left_out(text: str) -> None:
    assert _run(text + ";") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DROP DATABASE production", "DROP DATABASE reaches outside"),
        ("drop /* x */ database production", "DROP DATABASE reaches outside"),
        ("CREATE DATABASE x", "CREATE DATABASE reaches outside"),
        ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM reaches outside"),
        ("CREATE ROLE x", "CREATE ROLE reaches outside"),
        ("DROP OWNED BY x", "DROP OWNED reaches outside"),
        ("CREATE EXTENSION postgis", "CREATE EXTENSION is not for templates"),
        ("CREATE SCHEMA app", "it names the schema app"),
        ("DROP SCHEMA public CASCADE", "it names the schema public"),
        ("SET search_path = app", "it sets the search path to app"),
        ("SET ROLE bot", "SET ROLE is not for templates"),
        ("SET LOCAL ROLE bot", "SET ROLE is not for templates"),
        ("SET SESSION ROLE bot", "SET ROLE is not for templates"),
        ("SET SESSION AUTHORIZATION bot", "SET SESSION is not for templates"),
        ("RESET ROLE", "RESET is not for templates"),
        ("DISCARD ALL", "DISCARD is not for templates"),
        ("ROLLBACK", "ROLLBACK is not for templates"),
        ("SAVEPOINT x", "SAVEPOINT is not for templates"),
        ("SET client_encoding = 'LATIN1'", "it sets client_encoding to latin1"),
        ("COPY t TO stdout", "COPY reads from a file"),
        ("COPY t FROM PROGRAM 'id'", "COPY reads from a file"),
        ("COPY app.t (a) FROM stdin;\n\\.\n", "it names the schema app"),
        ("COPY t FROM stdin WITH (FORMAT csv);\n\\.\n", "COPY has options"),
        ("COPY t FROM stdin;\n1\n", "has no end"),
        ("SELECT pg_catalog.lo_create('16400')", "a large object with a number"),
        ("SELECT pg_catalog.lo_create(t.loid) FROM (VALUES ('16400')) AS t (loid)", "a large object with"),
        ("\\connect production", "\\connect is a command of psql"),
        ("\\! id", "\\! is a command of psql"),
        ("SELECT 'x", "the text that begins here has no end"),
        ("SELECT $a$ x", "the text that begins here has no end"),
        ("/* x", "the comment that begins here has no end"),
    ],
)
def test_what_reaches_out_or_has_no_end_is_refused_with_its_line(text: str, words: str) -> None:
    problem = _problem(f"SELECT 1;\n\n{text};" if not text.endswith("\n") else f"SELECT 1;\n\n{text}")
    assert problem.line == 3
    assert words in problem.problem
    assert problem.right


_PIECES = st.sampled_from(
    ["SELECT 1", "'a;b'", '"c;d"', "$$e;f$$", "$q$;$$;$q$", "(g;h)", "/* ;' */", "-- ;'\n", "E'\\';'", "i"]
)


@given(st.lists(st.lists(_PIECES, min_size=1, max_size=6), max_size=6))
def test_semicolons_in_texts_names_and_comments_end_nothing(wanted: list[list[str]]) -> None:
    written = [" ".join(["SELECT", *each]) for each in wanted]
    found = list(divide(";\n".join(written) + "\n;"))
    assert len(found) == len(written)
    for statement, text in zip(found, written, strict=True):
        assert text.startswith(statement.sql) or statement.sql.startswith(text.rstrip())


_WORDS = (
    "set create alter drop comment copy select table schema public . ( ) , ; on session local role to = 'x'"
)
_MORE = "search_path set_config if not exists or replace function begin atomic end case from stdin owner do"


@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(st.sampled_from([*_WORDS.split(" "), *_MORE.split(" "), "\n\\.\n"]), max_size=12).map(
            " ".join
        ),
    )
)
def test_any_text_is_divided_or_refused(text: str) -> None:
    problem = None
    try:
        found = [each for each in divide(text) if not is_left_out(each)]
        for each in found:
            fitted(each, SCHEMA)
    except Problem as refused:
        problem = refused
    assert problem is None or 1 <= problem.line <= text.count("\n") + 1
