-- migrate:up

-- Recordings of sandboxes' events. The events themselves are in NATS, in a stream of their own; a recording outlives its
-- sandbox, so nothing here refers to the table of sandboxes.
CREATE TABLE recordings (
    id              uuid CONSTRAINT pk_recordings PRIMARY KEY,
    name            text NOT NULL,
    owner           text NOT NULL,
    sandbox_id      uuid,
    sandbox_name    text NOT NULL,
    status          text NOT NULL,
    began_at        timestamptz NOT NULL,
    ended_at        timestamptz,
    reason          text NOT NULL DEFAULT '',
    source_birth    bigint NOT NULL DEFAULT 0,
    source_position bigint NOT NULL DEFAULT 0,
    until_birth     bigint,
    until_position  bigint,
    events          bigint NOT NULL DEFAULT 0,
    bytes           bigint NOT NULL DEFAULT 0,
    missed          bigint NOT NULL DEFAULT 0,
    gaps            integer NOT NULL DEFAULT 0,
    scrubbed        boolean NOT NULL DEFAULT false,
    claimed_by      text,
    claimed_until   timestamptz,

    CONSTRAINT ck_recordings_status CHECK (status IN ('recording', 'stopping', 'importing', 'ended', 'deleting'))
);

COMMENT ON COLUMN recordings.sandbox_id IS 'NULL: imported from a file';
COMMENT ON COLUMN recordings.source_birth IS 'which stream of the sandbox it begins in: when that was made, in microseconds';
COMMENT ON COLUMN recordings.gaps IS 'how often the sandbox''s stream was made anew, so that nobody knows how many events were missed';
COMMENT ON COLUMN recordings.claimed_by IS 'the process that records it';

CREATE UNIQUE INDEX uq_recordings_name ON recordings (name) WHERE status <> 'deleting';
CREATE INDEX idx_recordings_owner ON recordings (owner);

-- migrate:down

DROP TABLE recordings;
