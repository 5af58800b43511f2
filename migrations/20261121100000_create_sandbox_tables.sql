-- migrate:up

CREATE TYPE sandbox_status AS ENUM ('pending', 'creating', 'running', 'expired', 'destroying', 'destroyed');

CREATE TABLE sandboxes (
    id               uuid PRIMARY KEY,
    name             text NOT NULL,
    owner            text NOT NULL,
    status           sandbox_status NOT NULL DEFAULT 'pending',
    schema_name      text NOT NULL,
    discord_token_id text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    destroyed_at     timestamptz,
    last_activity_at timestamptz,
    metadata         jsonb NOT NULL DEFAULT '{}',

    CONSTRAINT ck_sandboxes_name CHECK (name ~ '^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$'),
    CONSTRAINT ck_sandboxes_owner CHECK (owner <> ''),
    CONSTRAINT ck_sandboxes_schema_name CHECK (schema_name ~ '^sandbox_[0-9a-f]{8}$'),
    CONSTRAINT ck_sandboxes_expires_at CHECK (isfinite(expires_at) AND expires_at > created_at),
    CONSTRAINT ck_sandboxes_metadata CHECK (jsonb_typeof(metadata) = 'object')
);

COMMENT ON COLUMN sandboxes.owner IS 'Discord user id, as text';
COMMENT ON COLUMN sandboxes.expires_at IS 'from this moment the sandbox receives no events, whether it was cleaned up or not';

-- A destroyed sandbox keeps its row; its name and schema name can be used again.
CREATE UNIQUE INDEX uq_sandboxes_name_live ON sandboxes (name) WHERE status <> 'destroyed';
CREATE UNIQUE INDEX uq_sandboxes_schema_live ON sandboxes (schema_name) WHERE status <> 'destroyed';
CREATE INDEX idx_sandboxes_status ON sandboxes (status);
CREATE INDEX idx_sandboxes_owner ON sandboxes (owner);
CREATE INDEX idx_sandboxes_expires ON sandboxes (expires_at) WHERE status = 'running';
CREATE INDEX idx_sandboxes_created ON sandboxes (created_at);

CREATE TABLE sandbox_guild_mapping (
    guild_id      text CONSTRAINT pk_sandbox_guild_mapping PRIMARY KEY,
    sandbox_id    uuid NOT NULL,
    registered_by text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT fk_sandbox_guild_mapping_sandbox
        FOREIGN KEY (sandbox_id) REFERENCES sandboxes (id) ON DELETE CASCADE,
    CONSTRAINT ck_sandbox_guild_mapping_guild_id CHECK (guild_id ~ '^[0-9]{17,20}$')
);

CREATE INDEX idx_sandbox_guild_mapping_sandbox ON sandbox_guild_mapping (sandbox_id);

-- No foreign key: what happened to a sandbox stays readable after its row is gone.
CREATE TABLE sandbox_audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sandbox_id uuid NOT NULL,
    event_type text NOT NULL,
    actor      text NOT NULL,
    details    jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed'
    )),
    CONSTRAINT ck_sandbox_audit_log_actor CHECK (actor <> ''),
    CONSTRAINT ck_sandbox_audit_log_details CHECK (jsonb_typeof(details) = 'object')
);

CREATE INDEX idx_sandbox_audit_log_sandbox_time ON sandbox_audit_log (sandbox_id, created_at);
CREATE INDEX idx_sandbox_audit_log_type ON sandbox_audit_log (event_type);

-- migrate:down

DROP TABLE sandbox_audit_log;
DROP TABLE sandbox_guild_mapping;
DROP TABLE sandboxes;
DROP TYPE sandbox_status;
