-- migrate:up

-- What a bot in the sandbox may do at Discord, in the sandbox's servers.
ALTER TABLE sandboxes
    ADD COLUMN rest_level text NOT NULL DEFAULT 'no_moderation',
    ADD CONSTRAINT ck_sandboxes_rest_level CHECK (rest_level IN ('read_only', 'no_moderation', 'full'));

-- widens ck_sandbox_audit_log_event_type: one more kind of event
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated',
        'rest_level_changed'
    ));

-- migrate:down

DELETE FROM sandbox_audit_log WHERE event_type = 'rest_level_changed';
ALTER TABLE sandbox_audit_log
    DROP CONSTRAINT ck_sandbox_audit_log_event_type,
    ADD CONSTRAINT ck_sandbox_audit_log_event_type CHECK (event_type IN (
        'sandbox_created', 'sandbox_destroying', 'sandbox_destroyed',
        'guild_registered', 'guild_unregistered', 'ttl_extended', 'status_changed', 'credentials_rotated'
    ));
ALTER TABLE sandboxes DROP COLUMN rest_level;
