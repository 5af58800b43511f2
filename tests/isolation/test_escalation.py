"""Nothing of a sandbox ever runs as the bot: everything that can call a function is laid out as a trap."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sandbox_core.bootstrap import Core

from .conftest import ALICE, GUILD, Held, hold

_TRAPS = """
    CREATE FUNCTION trap() RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_notify('trapped', current_user || ' ' || session_user); RETURN true; END$$;
    CREATE FUNCTION trap_row() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM {own}.trap(); RETURN coalesce(NEW, OLD); END$$;
    CREATE FUNCTION trap_int(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        $$BEGIN PERFORM {own}.trap(); RETURN 1; END$$;
    CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON communities
        FOR EACH ROW EXECUTE FUNCTION trap_row();
    CREATE TRIGGER t BEFORE TRUNCATE ON profiles EXECUTE FUNCTION trap_row();
    ALTER TABLE communities ENABLE ROW LEVEL SECURITY;
    ALTER TABLE communities FORCE ROW LEVEL SECURITY;
    CREATE POLICY p ON communities USING ({own}.trap());
    CREATE RULE r AS ON DELETE TO badges DO ALSO SELECT {own}.trap();
    ALTER TABLE profiles ALTER COLUMN xp SET DEFAULT {own}.trap_int(1);
    CREATE TABLE indexed (i int);
    CREATE INDEX ON indexed ({own}.trap_int(i));
    CREATE TABLE generated (i int, j int GENERATED ALWAYS AS ({own}.trap_int(1)) STORED);
    CREATE VIEW seen AS SELECT {own}.trap() AS trapped;
    CREATE DOMAIN d AS int CHECK ({own}.trap());
    CREATE FUNCTION count(text) RETURNS bigint LANGUAGE sql AS 'SELECT {own}.trap_int(1)::bigint';
    CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS
        'SELECT pg_catalog.now() FROM (SELECT {own}.trap()) AS t';
    CREATE FUNCTION to_regnamespace(text) RETURNS regnamespace LANGUAGE sql AS
        'SELECT pg_catalog.to_regnamespace($1) FROM (SELECT {own}.trap()) AS t';
    CREATE FUNCTION same(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT {own}.trap()';
    CREATE OPERATOR = (LEFTARG = name, RIGHTARG = text, FUNCTION = same);
    CREATE FUNCTION drop_sandbox_schema(text) RETURNS boolean LANGUAGE sql AS 'SELECT {own}.trap()';
    CREATE TABLE pg_class (i int, relname text);
    CREATE VIEW pg_roles AS SELECT {own}.trap() AS rolname;
"""


@pytest.fixture
async def trapped(admin: asyncpg.Connection) -> list[str]:
    """Who has walked into a trap."""
    heard: list[str] = []
    await admin.add_listener("trapped", lambda *told: heard.append(str(told[3])))
    return heard


async def test_no_trap_closes_on_the_bot(
    core: Core, mine: Held, admin: asyncpg.Connection, trapped: list[str]
) -> None:
    connection = await mine.postgres()
    await connection.execute(_TRAPS.replace("{own}", mine.schema))
    await connection.execute(f"INSERT INTO communities (guild_id, name) VALUES ('{GUILD}', 'x')")
    await connection.execute("INSERT INTO indexed VALUES (1); ANALYZE indexed; SELECT * FROM seen")
    trap = f"{mine.schema}.trap"
    # More than one transaction drops: such are dropped one by one.
    for number in range(60):
        await connection.execute(
            f"CREATE UNIQUE INDEX ON indexed ({trap}_int(i)) WHERE {trap}_int({number}) = 1;"
            f"ALTER TABLE generated ADD CHECK ({trap}()); ALTER DOMAIN d ADD CHECK ({trap}());"
            f"CREATE POLICY p{number} ON communities USING ({trap}());"
            f"CREATE TABLE t{number} (i int DEFAULT {trap}_int(1), CHECK ({trap}()))"
        )
    await _told(admin)
    itself = f"{mine.schema} {mine.schema}"
    assert set(trapped) == {itself}

    trapped.clear()
    await connection.close()
    health = await core.manager.health("mine")
    assert health.parts[0].state == "healthy"
    await core.manager.extend(ALICE, "mine", "1h")
    await core.manager.rotate(ALICE, "mine")
    await core.cleanup.keep_credentials()
    await core.cleanup.find_orphaned_resources()
    await core.manager.destroy(ALICE, "mine")
    await _told(admin)
    assert trapped == []


async def test_statistics_count_rows(core: Core, mine: Held) -> None:
    connection = await mine.postgres()
    await connection.execute("CREATE TABLE many AS SELECT i FROM generate_series(1, 500) AS i")
    await connection.close()
    part = (await core.manager.health("mine")).parts[0]
    assert part.facts["rows"] == 500
    assert "about 500 rows" in part.detail


async def test_no_lock_of_a_sandbox_holds_the_bot_up(core: Core, mine: Held, other: Held) -> None:
    """Every advisory lock that it can name, and every lock on its own tables."""
    connection = await mine.postgres()
    await connection.execute("BEGIN; LOCK TABLE communities, profiles, badges IN ACCESS EXCLUSIVE MODE")
    await connection.execute(
        "SELECT pg_advisory_lock(hashtext('sandbox_schema'), hashtext(n)) FROM unnest($1::text[]) AS n",
        [mine.schema, other.schema],
    )
    assert (await core.manager.health("mine")).parts[0].state == "healthy"
    await core.manager.rotate(ALICE, "mine")
    await hold(core, "third")
    await core.manager.destroy(ALICE, "mine")
    connection.terminate()


async def test_a_flood_of_connections_keeps_nobody_out(core: Core, mine: Held, other: Held) -> None:
    async with asyncio.timeout(30):
        results = await asyncio.gather(*(mine.postgres() for _ in range(40)), return_exceptions=True)
    let_in = [each for each in results if isinstance(each, asyncpg.Connection)]
    refusals = {type(each) for each in results if isinstance(each, BaseException)}
    assert (len(let_in), refusals) == (20, {asyncpg.TooManyConnectionsError})
    neighbour = await other.postgres()
    assert await neighbour.fetchval("SELECT name FROM communities") == "treasure"
    await neighbour.close()
    await core.manager.destroy(ALICE, "mine")
    for each in let_in:
        each.terminate()


async def _told(admin: asyncpg.Connection) -> None:
    """Have the server send what is waiting."""
    await admin.execute("NOTIFY trapped_marker")
    await admin.fetchval("SELECT 1")
    await asyncio.sleep(0.05)
