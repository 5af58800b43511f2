-- migrate:up

-- One row for each sandbox whose removal has begun and is not finished.
CREATE TABLE sandbox_cleanup (
    sandbox_id      uuid PRIMARY KEY,
    steps           jsonb NOT NULL DEFAULT '{}',
    attempts        integer NOT NULL DEFAULT 0,
    failed_step     text,
    reason          text,
    next_attempt_at timestamptz,

    CONSTRAINT fk_sandbox_cleanup_sandbox
        FOREIGN KEY (sandbox_id) REFERENCES sandboxes (id) ON DELETE CASCADE,
    CONSTRAINT ck_sandbox_cleanup_steps CHECK (jsonb_typeof(steps) = 'object'),
    CONSTRAINT ck_sandbox_cleanup_attempts CHECK (attempts >= 0)
);

COMMENT ON COLUMN sandbox_cleanup.steps IS 'The steps that are done, each with the moment it was done last';
COMMENT ON COLUMN sandbox_cleanup.attempts IS 'Failed attempts in a row';
COMMENT ON COLUMN sandbox_cleanup.next_attempt_at IS 'Automatic cleanup leaves the sandbox alone until then';

-- What people were told by direct message. A row is written before its message is sent: after a crash in
-- between, a message may be missing, but none comes twice.
CREATE TABLE sandbox_notices (
    sandbox_id uuid NOT NULL,
    kind       text NOT NULL,
    about      timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),

    PRIMARY KEY (sandbox_id, kind, about),
    CONSTRAINT fk_sandbox_notices_sandbox
        FOREIGN KEY (sandbox_id) REFERENCES sandboxes (id) ON DELETE CASCADE,
    CONSTRAINT ck_sandbox_notices_kind CHECK (kind <> '')
);

COMMENT ON COLUMN sandbox_notices.about IS
    'The moment the notice is about, such as the expiry: after an extension there is a new one to tell about';

-- migrate:down

DROP TABLE sandbox_notices;
DROP TABLE sandbox_cleanup;
