-- migrate:up

-- The passwords of a sandbox's own credentials are made from the operator's key, the sandbox and this number; they
-- are stored nowhere. 0: the sandbox has none, its worker keeps to its part by convention.
ALTER TABLE sandboxes
    ADD COLUMN credentials_generation integer NOT NULL DEFAULT 0,
    ADD COLUMN credentials_key text NOT NULL DEFAULT '';

COMMENT ON COLUMN sandboxes.credentials_key IS 'which key they were made with: its fingerprint, which does not tell the key';

-- widens ck_sandbox_audit_log_event_type: one more kind of event
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated'
    ));

-- The tenant tables in one place: for a schema in this database, and for one in the tenants' database.
CREATE FUNCTION sandbox_tenant_tables(id_part text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN format($ddl$
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
    $ddl$, sandbox_schema_name(id_part));
END;
$$;

COMMENT ON FUNCTION sandbox_tenant_tables(text) IS
    'The statements that make the tenant tables in a sandbox''s schema, which exists already';

CREATE OR REPLACE FUNCTION create_sandbox_schema(id_part text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    schema_name CONSTANT text := sandbox_schema_name(id_part);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('sandbox_schema'), hashtext(schema_name));

    EXECUTE format('CREATE SCHEMA %I', schema_name);
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', schema_name, sandbox_schema_mark());
    EXECUTE sandbox_tenant_tables(id_part);

    RETURN schema_name;
END;
$$;

ALTER FUNCTION sandbox_tenant_tables(text) SET search_path FROM CURRENT;
ALTER FUNCTION create_sandbox_schema(text) SET search_path FROM CURRENT;

-- migrate:down

CREATE OR REPLACE FUNCTION create_sandbox_schema(id_part text) RETURNS text
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

ALTER FUNCTION create_sandbox_schema(text) SET search_path FROM CURRENT;
DROP FUNCTION sandbox_tenant_tables(text);

DELETE FROM sandbox_audit_log WHERE event_type = 'credentials_rotated';
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed'
    ));
ALTER TABLE sandboxes DROP COLUMN credentials_key, DROP COLUMN credentials_generation;
