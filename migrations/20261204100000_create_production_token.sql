-- migrate:up

-- The token with which production's own unmodified bot connects to the endpoint: made from the operator's key and this
-- number, stored nowhere. The number only grows, so that no token comes back.
CREATE TABLE production_token (
    one        boolean CONSTRAINT pk_production_token PRIMARY KEY DEFAULT true,
    generation integer NOT NULL,
    key_id     text NOT NULL,
    valid      boolean NOT NULL,

    CONSTRAINT ck_production_token_one CHECK (one)
);

COMMENT ON COLUMN production_token.key_id IS 'which key it was made with: its fingerprint, which does not tell the key';

-- widens ck_sandbox_audit_log_event_type: one more kind of event
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated',
        'rest_level_changed', 'production_access_changed'
    ));

-- migrate:down

DELETE FROM sandbox_audit_log WHERE event_type = 'production_access_changed';
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated',
        'rest_level_changed'
    ));
DROP TABLE production_token;
