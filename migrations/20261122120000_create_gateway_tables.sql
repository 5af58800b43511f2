-- migrate:up

-- The processes that publish events. A row is renewed every two seconds over the connection on which its
-- process hears of route changes; who was seen in the last ten seconds has to confirm a change.
CREATE TABLE gateway_processes (
    process_id uuid PRIMARY KEY,
    name       text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    session    text,

    CONSTRAINT ck_gateway_processes_name CHECK (name <> '')
);

COMMENT ON COLUMN gateway_processes.name IS 'For people: host name and process id, as host:pid';
COMMENT ON COLUMN gateway_processes.session IS
    'That of the connection, see sandbox_session(); null where a pooler stands in between';

-- What each process that publishes an application's events publishes, or would. It says so in each of its
-- turns, once a second.
CREATE TABLE gateway_publishers (
    application_id bigint NOT NULL,
    process_id     uuid NOT NULL,
    kind           text NOT NULL,
    name           text NOT NULL,
    shard_count    integer NOT NULL,
    shard_ids      integer[],
    joined_at      timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL,

    PRIMARY KEY (application_id, process_id),
    CONSTRAINT ck_gateway_publishers_kind CHECK (kind IN ('standalone', 'plugin')),
    CONSTRAINT ck_gateway_publishers_count CHECK (shard_count > 0)
);

COMMENT ON COLUMN gateway_publishers.kind IS
    'standalone: the bot of its own, whose sessions others resume; plugin: in somebody else''s bot';
COMMENT ON COLUMN gateway_publishers.name IS 'For people: host name and process id, as host:pid';
COMMENT ON COLUMN gateway_publishers.shard_ids IS
    'The shards it would publish, none when it ends; null for its share of all';

-- Who runs which gateway shard. A holder renews its leases every second; one that has lapsed, or whose holder
-- is gone, may be taken over. Rows of several shard counts may stand side by side: sessions of different
-- counts are independent.
CREATE TABLE gateway_shards (
    application_id bigint NOT NULL,
    shard_count    integer NOT NULL,
    shard_id       integer NOT NULL,
    holder         uuid,
    lease_until    timestamptz,
    identifies     integer NOT NULL DEFAULT 0,
    identified_at  timestamptz,
    epoch          bigint NOT NULL DEFAULT 0,
    held_since     timestamptz,
    settled_at     timestamptz,
    stale_epoch    bigint NOT NULL DEFAULT 0,

    PRIMARY KEY (application_id, shard_count, shard_id),
    CONSTRAINT ck_gateway_shards_shard CHECK (shard_id >= 0 AND shard_id < shard_count),
    CONSTRAINT ck_gateway_shards_lease CHECK ((holder IS NULL) = (lease_until IS NULL)),
    CONSTRAINT ck_gateway_shards_identifies CHECK (identifies >= 0)
);

COMMENT ON COLUMN gateway_shards.holder IS 'The process that runs the shard; null when it is free';
COMMENT ON COLUMN gateway_shards.identifies IS
    'IDENTIFYs in a row after which the session did not stay up, by whichever process';
COMMENT ON COLUMN gateway_shards.epoch IS
    'Grows each time the shard gets another holder, whoever that is. Who is told of a later epoch than its own '
    'has lost the shard, and its resume points count no more';
COMMENT ON COLUMN gateway_shards.held_since IS 'When the present holder took the shard';
COMMENT ON COLUMN gateway_shards.settled_at IS
    'Every event of the shard that happened before this moment is stored; null when nobody said so';
COMMENT ON COLUMN gateway_shards.stale_epoch IS
    'A session saved under this epoch or an earlier one is not resumed: since then events were published '
    'from a session that nobody can resume';

-- A trigger, so that no statement can forget it.
CREATE FUNCTION raise_shard_epoch() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.epoch := OLD.epoch + 1;
    RETURN NEW;
END;
$$;

CREATE TRIGGER gateway_shards_epoch
    BEFORE UPDATE OF holder ON gateway_shards
    FOR EACH ROW
    WHEN (NEW.holder IS NOT NULL AND NEW.holder IS DISTINCT FROM OLD.holder)
    EXECUTE FUNCTION raise_shard_epoch();

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
    epoch          bigint NOT NULL DEFAULT 0,

    PRIMARY KEY (application_id, shard_count, shard_id),
    CONSTRAINT ck_gateway_resume_points_shard CHECK (shard_id >= 0 AND shard_id < shard_count),
    CONSTRAINT ck_gateway_resume_points_sequence CHECK (sequence >= 0)
);

COMMENT ON COLUMN gateway_resume_points.sequence IS
    'The last frame before which every frame of the session is acknowledged';
COMMENT ON COLUMN gateway_resume_points.since IS 'No later frame was received before this moment';
COMMENT ON COLUMN gateway_resume_points.epoch IS 'The holder''s, when it saved the point; 0 when not known';

-- When each bucket (shard_id % max_concurrency) was identified last: Discord wants five seconds in between,
-- whichever process it is.
CREATE TABLE gateway_identify_buckets (
    application_id bigint NOT NULL,
    bucket         integer NOT NULL,
    identified_at  timestamptz NOT NULL,

    PRIMARY KEY (application_id, bucket),
    CONSTRAINT ck_gateway_identify_buckets_bucket CHECK (bucket >= 0)
);

-- What the bot's owner was told about an application's processes, so that nobody is told twice.
CREATE TABLE gateway_notices (
    application_id bigint NOT NULL,
    about          text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),

    PRIMARY KEY (application_id, about)
);

-- migrate:down

DROP TABLE gateway_notices;
DROP TABLE gateway_identify_buckets;
DROP TABLE gateway_resume_points;
DROP TABLE gateway_shards;
DROP FUNCTION raise_shard_epoch();
DROP TABLE gateway_publishers;
DROP TABLE gateway_processes;
