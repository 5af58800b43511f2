-- migrate:up

-- With whom a sandbox is shared. A row that goes takes the colleague's credentials with it: what servers still have
-- of them is compared with these rows, and removed.
CREATE TABLE sandbox_shares (
    sandbox_id         uuid NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    user_id            text NOT NULL,
    user_name          text NOT NULL DEFAULT '',
    access             text NOT NULL,
    login              text,
    nats_generation    integer,
    nats_password_hash text,
    shared_at          timestamptz NOT NULL,

    CONSTRAINT pk_sandbox_shares PRIMARY KEY (sandbox_id, user_id),
    CONSTRAINT ck_sandbox_shares_user CHECK (user_id ~ '^[0-9]{17,20}$'),
    CONSTRAINT ck_sandbox_shares_access CHECK (access IN ('see', 'use')),
    CONSTRAINT ck_sandbox_shares_login CHECK (
        (access = 'use') = (login IS NOT NULL) AND (login IS NULL OR login ~ '^[0-9a-f]{8}$')
    ),
    CONSTRAINT ck_sandbox_shares_nats CHECK (
        num_nulls(nats_generation, nats_password_hash) IN (0, 2) AND (nats_generation IS NULL OR login IS NOT NULL)
    )
);

CREATE INDEX idx_sandbox_shares_user ON sandbox_shares (user_id);

COMMENT ON COLUMN sandbox_shares.login IS
    'Names the colleague''s own credentials, which are made from it and stored nowhere; another one for each sharing';
COMMENT ON COLUMN sandbox_shares.nats_password_hash IS
    'SHA-256 of the password with which the colleague may log in to NATS, which has 256 bits';

-- widens ck_sandbox_audit_log_event_type: two more kinds of events
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated',
        'rest_level_changed', 'production_access_changed', 'sandbox_reset', 'sandbox_shared', 'sandbox_unshared'
    ));

-- migrate:down

DELETE FROM sandbox_audit_log WHERE event_type IN ('sandbox_shared', 'sandbox_unshared');
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated',
        'rest_level_changed', 'production_access_changed', 'sandbox_reset'
    ));
DROP TABLE sandbox_shares;
