-- migrate:up

-- How often a shard has changed its holder. Who is told of a later epoch than its own has lost the shard,
-- and its resume points count no more.
ALTER TABLE gateway_shards ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE gateway_resume_points ADD COLUMN epoch bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN gateway_shards.epoch IS 'Grows each time the shard gets another holder, whoever that is';
COMMENT ON COLUMN gateway_resume_points.epoch IS 'The holder''s, when it saved the point; 0 when not known';

-- A trigger, so that it also grows when a process of an earlier version takes the shard.
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

-- migrate:down

DROP TRIGGER gateway_shards_epoch ON gateway_shards;
DROP FUNCTION raise_shard_epoch();
ALTER TABLE gateway_resume_points DROP COLUMN epoch;
ALTER TABLE gateway_shards DROP COLUMN epoch;
