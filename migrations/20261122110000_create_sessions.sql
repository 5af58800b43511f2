-- migrate:up

-- The session that this is called from, for others to look up: the start of the server, the process id, the
-- session's own start. It is text that only `sandbox_session_is_over` reads.
CREATE FUNCTION sandbox_session() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT concat_ws(
        '/', extract(epoch FROM pg_postmaster_start_time()), pid, extract(epoch FROM backend_start)
    )
    FROM pg_stat_get_activity(pg_backend_pid());
$$;

-- True when the session has ended and this server has run ever since. A server that was started again, or
-- another one that took its place, has no session of before: of those it says nothing. Of a session with
-- the same process id whose start this role may not see, nothing is said either.
CREATE FUNCTION sandbox_session_is_over(session text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        split_part(session, '/', 1) = extract(epoch FROM pg_postmaster_start_time())::text
        AND NOT EXISTS (
            SELECT FROM pg_stat_get_activity(split_part(session, '/', 2)::integer) AS present
            WHERE coalesce(extract(epoch FROM present.backend_start)::text, split_part(session, '/', 3))
                = split_part(session, '/', 3)
        ),
        false
    );
$$;

-- One row for each sandbox that is being created.
CREATE TABLE sandbox_creations (
    sandbox_id uuid PRIMARY KEY,
    session    text,

    CONSTRAINT fk_sandbox_creations_sandbox
        FOREIGN KEY (sandbox_id) REFERENCES sandboxes (id) ON DELETE CASCADE
);

COMMENT ON COLUMN sandbox_creations.session IS
    'A session that the creator keeps until the end, see sandbox_session(); null where a pooler stands in between';

-- migrate:down

DROP TABLE sandbox_creations;
DROP FUNCTION sandbox_session_is_over(text);
DROP FUNCTION sandbox_session();
