-- migrate:up

-- What each sandbox stores where its server can't limit that, as one process of the bot has measured it last.
CREATE TABLE sandbox_storage (
    sandbox_id  uuid NOT NULL,
    store       text NOT NULL,
    bytes       bigint NOT NULL,
    items       bigint NOT NULL,
    measured_at timestamptz NOT NULL,
    level       text NOT NULL DEFAULT 'room',
    before      text NOT NULL DEFAULT 'room',
    since       timestamptz,

    PRIMARY KEY (sandbox_id, store),
    CONSTRAINT fk_sandbox_storage_sandbox FOREIGN KEY (sandbox_id) REFERENCES sandboxes (id) ON DELETE CASCADE,
    CONSTRAINT ck_sandbox_storage_amounts CHECK (bytes >= 0 AND items >= 0),
    CONSTRAINT ck_sandbox_storage_levels CHECK (
        level IN ('room', 'near', 'full') AND before IN ('room', 'near', 'full')
    )
);

COMMENT ON COLUMN sandbox_storage.items IS 'Keys in Redis, tables in PostgreSQL';
COMMENT ON COLUMN sandbox_storage.since IS 'When it got to its level, from the level `before`; null: it never left it';

-- Whose turn it is to measure: a process that begins writes the moment, and others wait from then on.
CREATE TABLE sandbox_storage_turns (
    store text PRIMARY KEY,
    begun_at timestamptz NOT NULL
);

-- migrate:down

DROP TABLE sandbox_storage_turns;
DROP TABLE sandbox_storage;
