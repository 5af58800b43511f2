-- migrate:up

-- The processes that publish events. A row is renewed every two seconds over the connection on which its
-- process hears of route changes; who was seen in the last ten seconds has to confirm a change.
CREATE TABLE gateway_processes (
    process_id uuid PRIMARY KEY,
    name       text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT ck_gateway_processes_name CHECK (name <> '')
);

COMMENT ON COLUMN gateway_processes.name IS 'For people: host name and process id, as host:pid';

-- Where gateway sessions can be resumed, for as long as Redis can't keep it.
CREATE TABLE gateway_resume_points (
    application_id bigint NOT NULL,
    shard_count    integer NOT NULL,
    shard_id       integer NOT NULL,
    session_id     text NOT NULL,
    resume_url     text NOT NULL,
    sequence       bigint NOT NULL,
    since          timestamptz NOT NULL,
    saved_at       timestamptz NOT NULL,

    PRIMARY KEY (application_id, shard_count, shard_id),
    CONSTRAINT ck_gateway_resume_points_shard CHECK (shard_id >= 0 AND shard_id < shard_count),
    CONSTRAINT ck_gateway_resume_points_sequence CHECK (sequence >= 0)
);

COMMENT ON COLUMN gateway_resume_points.sequence IS
    'The last frame before which every frame of the session is acknowledged';

COMMENT ON COLUMN gateway_resume_points.since IS 'No later frame was received before this moment';

-- migrate:down

DROP TABLE gateway_resume_points;
DROP TABLE gateway_processes;
