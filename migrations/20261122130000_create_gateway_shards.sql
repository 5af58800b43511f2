-- migrate:up

-- Who runs which gateway shard. A holder renews its leases every second; one that has lapsed may be taken
-- over. Rows of several shard counts may stand side by side: sessions of different counts are independent.
CREATE TABLE gateway_shards (
    application_id bigint NOT NULL,
    shard_count    integer NOT NULL,
    shard_id       integer NOT NULL,
    holder         uuid,
    lease_until    timestamptz,
    identifies     integer NOT NULL DEFAULT 0,
    identified_at  timestamptz,

    PRIMARY KEY (application_id, shard_count, shard_id),
    CONSTRAINT ck_gateway_shards_shard CHECK (shard_id >= 0 AND shard_id < shard_count),
    CONSTRAINT ck_gateway_shards_lease CHECK ((holder IS NULL) = (lease_until IS NULL)),
    CONSTRAINT ck_gateway_shards_identifies CHECK (identifies >= 0)
);

COMMENT ON COLUMN gateway_shards.holder IS 'The process that runs the shard; null when it is free';
COMMENT ON COLUMN gateway_shards.identifies IS
    'IDENTIFYs in a row after which the session did not stay up, by whichever process';

-- The processes among which the shards of an application are shared out, as long as they say so.
CREATE TABLE gateway_shard_candidates (
    application_id bigint NOT NULL,
    process_id     uuid NOT NULL,
    shard_count    integer NOT NULL,
    joined_at      timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL,

    PRIMARY KEY (application_id, process_id),
    CONSTRAINT ck_gateway_shard_candidates_count CHECK (shard_count > 0)
);

-- When each bucket (shard_id % max_concurrency) was identified last: Discord wants five seconds in between,
-- whichever process it is.
CREATE TABLE gateway_identify_buckets (
    application_id bigint NOT NULL,
    bucket         integer NOT NULL,
    identified_at  timestamptz NOT NULL,

    PRIMARY KEY (application_id, bucket),
    CONSTRAINT ck_gateway_identify_buckets_bucket CHECK (bucket >= 0)
);

-- migrate:down

DROP TABLE gateway_identify_buckets;
DROP TABLE gateway_shard_candidates;
DROP TABLE gateway_shards;
