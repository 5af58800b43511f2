-- migrate:up

-- The accounts of the sandboxes' NATS server, by number: whose each is, and that sandbox's present login. The NATS
-- server asks the bot, and the bot looks here. A row without a sandbox is a free slot. Nothing refers to the
-- sandbox's own row: a slot is free when its account is empty and nobody is connected to it, not before.
CREATE TABLE nats_slots (
    slot          integer PRIMARY KEY,
    sandbox_id    uuid UNIQUE,
    generation    integer,
    password_hash text,
    until         timestamptz,
    at_most_until timestamptz,
    freed_at      timestamptz,

    CONSTRAINT ck_nats_slots_slot CHECK (slot BETWEEN 0 AND 999),
    CONSTRAINT ck_nats_slots_login CHECK (
        num_nulls(generation, password_hash, until, at_most_until) IN (0, 4)
        AND (password_hash IS NULL OR sandbox_id IS NOT NULL)
    )
);

COMMENT ON COLUMN nats_slots.password_hash IS 'SHA-256 of the present password, which has 256 bits; null: no login';
COMMENT ON COLUMN nats_slots.at_most_until IS
    'The server itself ends a connection then: the latest moment to which the sandbox can be extended';
COMMENT ON COLUMN nats_slots.freed_at IS 'A slot rests for a while, so that no login of before can still succeed';

-- migrate:down

DROP TABLE nats_slots;
