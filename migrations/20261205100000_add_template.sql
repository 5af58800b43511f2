-- migrate:up

-- The template that a sandbox began with, so that a reset begins with it again; and how far a reset is that has not
-- ended. A process may die in the middle of one.
ALTER TABLE sandboxes
    ADD COLUMN template text NOT NULL DEFAULT '',
    ADD COLUMN resetting text NOT NULL DEFAULT '',
    ADD CONSTRAINT ck_sandboxes_resetting CHECK (resetting IN ('', 'schema', 'rest'));

COMMENT ON COLUMN sandboxes.resetting IS
    'The reset that has begun: `schema` while its schema is made anew, `rest` while its other parts are; empty: none';

-- widens ck_sandbox_audit_log_event_type: one more kind of event
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated',
        'rest_level_changed', 'production_access_changed', 'sandbox_reset'
    ));

-- migrate:down

DELETE FROM sandbox_audit_log WHERE event_type = 'sandbox_reset';
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated',
        'rest_level_changed', 'production_access_changed'
    ));
ALTER TABLE sandboxes DROP COLUMN resetting, DROP COLUMN template;
