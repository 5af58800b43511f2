-- migrate:up

-- Where guilds' events go, as far as the database decides it: expiry is judged by the reader's clock.
CREATE VIEW sandbox_routes AS
    SELECT mapping.guild_id, mapping.sandbox_id, sandbox.expires_at
    FROM sandbox_guild_mapping AS mapping
    JOIN sandboxes AS sandbox ON sandbox.id = mapping.sandbox_id
    WHERE sandbox.status = 'running';

-- Channels are the database's, not a schema's: outside of public they bear the schema's name as well, so that
-- installations in one database do not hear each other.
CREATE FUNCTION sandbox_channel(base text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT base || CASE current_schema() WHEN 'public' THEN '' ELSE '_' || current_schema() END;
$$;

-- One notification on channel sandbox_routes per guild whose route may have changed:
--   {"guild_id": "...", "sandbox_id": "..." or null, "expires_at": seconds since the epoch or null}
-- sandbox_id is null when the guild's events go to production.
CREATE FUNCTION notify_sandbox_route(changed_guild_id text) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_notify(sandbox_channel('sandbox_routes'), json_build_object(
        'guild_id', changed_guild_id,
        'sandbox_id', route.sandbox_id,
        'expires_at', extract(epoch FROM route.expires_at)::double precision
    )::text)
    FROM (VALUES (1)) AS always
    LEFT JOIN sandbox_routes AS route ON route.guild_id = changed_guild_id;
$$;

CREATE FUNCTION on_guild_mapping_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM notify_sandbox_route(OLD.guild_id);
    END IF;
    IF TG_OP <> 'DELETE' AND (TG_OP = 'INSERT' OR NEW.guild_id <> OLD.guild_id) THEN
        PERFORM notify_sandbox_route(NEW.guild_id);
    END IF;
    RETURN NULL;
END;
$$;

CREATE FUNCTION on_sandbox_route_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM notify_sandbox_route(guild_id) FROM sandbox_guild_mapping WHERE sandbox_id = NEW.id;
    RETURN NULL;
END;
$$;

-- Deferred to the commit, so that every notification tells the final state. PostgreSQL delivers equal
-- notifications of one transaction once: told step by step, "mapped, unmapped, mapped" would arrive
-- as "mapped, unmapped".
CREATE CONSTRAINT TRIGGER sandbox_guild_mapping_notify
    AFTER INSERT OR UPDATE OR DELETE ON sandbox_guild_mapping
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION on_guild_mapping_change();

CREATE CONSTRAINT TRIGGER sandboxes_notify
    AFTER UPDATE OF status, expires_at ON sandboxes
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.expires_at IS DISTINCT FROM NEW.expires_at)
    EXECUTE FUNCTION on_sandbox_route_change();

-- A registration and a status change of the same sandbox wait for each other. Otherwise neither
-- transaction would see the other's row, and a guild registered to a sandbox that is just being
-- destroyed would be announced as routed to it, with nothing to correct that.
CREATE FUNCTION lock_mapped_sandbox() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM sandboxes WHERE id = NEW.sandbox_id FOR NO KEY UPDATE;
    RETURN NEW;
END;
$$;

CREATE TRIGGER sandbox_guild_mapping_lock
    BEFORE INSERT OR UPDATE OF sandbox_id ON sandbox_guild_mapping
    FOR EACH ROW EXECUTE FUNCTION lock_mapped_sandbox();

-- The triggers find the tables wherever the caller's search_path points.
ALTER FUNCTION sandbox_channel(text) SET search_path FROM CURRENT;
ALTER FUNCTION notify_sandbox_route(text) SET search_path FROM CURRENT;
ALTER FUNCTION on_guild_mapping_change() SET search_path FROM CURRENT;
ALTER FUNCTION on_sandbox_route_change() SET search_path FROM CURRENT;
ALTER FUNCTION lock_mapped_sandbox() SET search_path FROM CURRENT;

-- migrate:down

DROP TRIGGER sandbox_guild_mapping_lock ON sandbox_guild_mapping;
DROP TRIGGER sandboxes_notify ON sandboxes;
DROP TRIGGER sandbox_guild_mapping_notify ON sandbox_guild_mapping;
DROP FUNCTION lock_mapped_sandbox();
DROP FUNCTION on_sandbox_route_change();
DROP FUNCTION on_guild_mapping_change();
DROP FUNCTION notify_sandbox_route(text);
DROP FUNCTION sandbox_channel(text);
DROP VIEW sandbox_routes;
