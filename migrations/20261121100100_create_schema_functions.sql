-- migrate:up

-- Every function takes the id part of a schema's name: 'test123' stands for the schema sandbox_test123.

CREATE FUNCTION sandbox_schema_name(id_part text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF id_part IS NULL OR id_part !~ '^[a-z0-9_]{1,40}$' THEN
        RAISE EXCEPTION 'not the id part of a sandbox schema: %', quote_nullable(left(id_part, 60))
            USING ERRCODE = 'invalid_parameter_value', HINT = '1 to 40 of a-z, 0-9 and _';
    END IF;
    RETURN 'sandbox_' || id_part;
END;
$$;

COMMENT ON FUNCTION sandbox_schema_name(text) IS
    'The schema''s full name; raises invalid_parameter_value for anything but 1 to 40 of a-z, 0-9 and _';

-- Several installations may share a database, each with these objects in a schema of its own. Whose a
-- sandbox's schema is stands in the schema's comment.
CREATE FUNCTION sandbox_schema_mark() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT 'discord-server-sandboxes, control schema ' || current_schema();
$$;

COMMENT ON FUNCTION sandbox_schema_mark() IS 'The comment of the schemas that this installation makes';

CREATE FUNCTION sandbox_schema_is_others(id_part text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = sandbox_schema_name(id_part)
          AND obj_description(n.oid, 'pg_namespace') LIKE 'discord-server-sandboxes, control schema %'
          AND obj_description(n.oid, 'pg_namespace') <> sandbox_schema_mark()
    );
$$;

COMMENT ON FUNCTION sandbox_schema_is_others(text) IS
    'Whether the schema is there and another installation in this database made it';

CREATE FUNCTION create_sandbox_schema(id_part text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    schema_name CONSTANT text := sandbox_schema_name(id_part);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('sandbox_schema'), hashtext(schema_name));

    EXECUTE format('CREATE SCHEMA %I', schema_name);
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', schema_name, sandbox_schema_mark());

    EXECUTE format($ddl$
        CREATE TABLE %1$I.communities (
            id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            guild_id   text NOT NULL UNIQUE CHECK (guild_id ~ '^[0-9]{17,20}$'),
            name       text NOT NULL,
            settings   jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX idx_communities_created ON %1$I.communities (created_at);

        CREATE TABLE %1$I.profiles (
            id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            community_id bigint NOT NULL REFERENCES %1$I.communities (id) ON DELETE CASCADE,
            user_id      text NOT NULL CHECK (user_id ~ '^[0-9]{17,20}$'),
            display_name text NOT NULL DEFAULT '',
            xp           bigint NOT NULL DEFAULT 0 CHECK (xp >= 0),
            metadata     jsonb NOT NULL DEFAULT '{}',
            created_at   timestamptz NOT NULL DEFAULT now(),
            updated_at   timestamptz NOT NULL DEFAULT now(),
            UNIQUE (community_id, user_id)
        );
        CREATE INDEX idx_profiles_user ON %1$I.profiles (user_id);
        CREATE INDEX idx_profiles_community_xp ON %1$I.profiles (community_id, xp DESC);

        CREATE TABLE %1$I.badges (
            id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            profile_id bigint NOT NULL REFERENCES %1$I.profiles (id) ON DELETE CASCADE,
            code       text NOT NULL CHECK (code <> ''),
            awarded_by text,
            awarded_at timestamptz NOT NULL DEFAULT now(),
            metadata   jsonb NOT NULL DEFAULT '{}',
            UNIQUE (profile_id, code)
        );
        CREATE INDEX idx_badges_code ON %1$I.badges (code);
    $ddl$, schema_name);

    RETURN schema_name;
END;
$$;

COMMENT ON FUNCTION create_sandbox_schema(text) IS
    'Makes a sandbox''s schema with the tenant tables and returns its name; raises duplicate_schema when it exists';

CREATE FUNCTION sandbox_schema_exists(id_part text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = sandbox_schema_name(id_part));
END;
$$;

COMMENT ON FUNCTION sandbox_schema_exists(text) IS 'Whether the sandbox''s schema is there';

CREATE FUNCTION drop_sandbox_schema(id_part text) RETURNS boolean
LANGUAGE plpgsql
-- DROP ... CASCADE lists every dropped table in a notice.
SET client_min_messages = warning AS $$
DECLARE
    schema_name CONSTANT text := sandbox_schema_name(id_part);
BEGIN
    -- Of two callers at once exactly one is told that the schema existed.
    PERFORM pg_advisory_xact_lock(hashtext('sandbox_schema'), hashtext(schema_name));
    IF NOT sandbox_schema_exists(id_part) OR sandbox_schema_is_others(id_part) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP SCHEMA %I CASCADE', schema_name);
    RETURN true;
END;
$$;

COMMENT ON FUNCTION drop_sandbox_schema(text) IS
    'Drops a sandbox''s schema with all it holds; false when there was none of this installation, so calling it again is harmless';

CREATE FUNCTION get_sandbox_schema_stats(id_part text)
RETURNS TABLE (table_name text, row_count bigint, total_bytes bigint)
LANGUAGE plpgsql AS $$
DECLARE
    schema_name CONSTANT text := sandbox_schema_name(id_part);
    relation record;
BEGIN
    FOR relation IN
        SELECT c.oid, c.relname
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = schema_name AND c.relkind IN ('r', 'p')
        ORDER BY c.relname
    LOOP
        table_name := relation.relname;
        total_bytes := pg_total_relation_size(relation.oid);
        EXECUTE format('SELECT count(*) FROM %I.%I', schema_name, relation.relname) INTO row_count;
        RETURN NEXT;
    END LOOP;
END;
$$;

COMMENT ON FUNCTION get_sandbox_schema_stats(text) IS
    'Exact row counts, and bytes with indexes and TOAST, of every table in a sandbox''s schema; no rows without one';

-- Calls between these functions find each other wherever the caller's search_path points.
ALTER FUNCTION sandbox_schema_mark() SET search_path FROM CURRENT;
ALTER FUNCTION sandbox_schema_is_others(text) SET search_path FROM CURRENT;
ALTER FUNCTION create_sandbox_schema(text) SET search_path FROM CURRENT;
ALTER FUNCTION sandbox_schema_exists(text) SET search_path FROM CURRENT;
ALTER FUNCTION drop_sandbox_schema(text) SET search_path FROM CURRENT;
ALTER FUNCTION get_sandbox_schema_stats(text) SET search_path FROM CURRENT;

-- migrate:down

-- The schemas of sandboxes stay: they hold developers' data, and this undoes only what this project defined.
DROP FUNCTION get_sandbox_schema_stats(text);
DROP FUNCTION drop_sandbox_schema(text);
DROP FUNCTION sandbox_schema_exists(text);
DROP FUNCTION create_sandbox_schema(text);
DROP FUNCTION sandbox_schema_is_others(text);
DROP FUNCTION sandbox_schema_mark();
DROP FUNCTION sandbox_schema_name(text);
