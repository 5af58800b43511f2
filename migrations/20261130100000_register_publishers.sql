-- migrate:up

-- Every process that publishes an application's events, or would. It says so in each of its turns, once a
-- second.
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
COMMENT ON COLUMN gateway_publishers.shard_ids IS 'The shards it would publish; null for its share of all';

ALTER TABLE gateway_shards ADD COLUMN held_since timestamptz;
ALTER TABLE gateway_shards ADD COLUMN settled_at timestamptz;
ALTER TABLE gateway_shards ADD COLUMN stale_epoch bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN gateway_shards.held_since IS 'When the present holder took the shard';
COMMENT ON COLUMN gateway_shards.settled_at IS
    'Every event of the shard that happened before this moment is stored; null when nobody said so';
COMMENT ON COLUMN gateway_shards.stale_epoch IS
    'A session saved under this epoch or an earlier one is not resumed: since then events were published '
    'from a session that nobody can resume';

-- What the bot's owner was told about an application's processes, so that nobody is told twice.
CREATE TABLE gateway_notices (
    application_id bigint NOT NULL,
    about          text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),

    PRIMARY KEY (application_id, about)
);

-- migrate:down

DROP TABLE gateway_notices;
ALTER TABLE gateway_shards DROP COLUMN stale_epoch;
ALTER TABLE gateway_shards DROP COLUMN settled_at;
ALTER TABLE gateway_shards DROP COLUMN held_since;
DROP TABLE gateway_publishers;
