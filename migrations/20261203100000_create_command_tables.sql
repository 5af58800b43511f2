-- migrate:up

-- The application commands that the bot of a sandbox has registered, under the ids that it knows. Discord has
-- them as commands of the sandbox's servers.
CREATE TABLE sandbox_commands (
    id         text PRIMARY KEY,
    sandbox_id uuid NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    guild_id   text,
    kind       smallint NOT NULL,
    name       text NOT NULL,
    version    text NOT NULL,
    body       jsonb NOT NULL,
    sent       jsonb,
    digest     text NOT NULL,

    CONSTRAINT ck_sandbox_commands_sent CHECK ((sent IS NULL) = (digest = ''))
);

CREATE UNIQUE INDEX uq_sandbox_commands_global ON sandbox_commands (sandbox_id, kind, name) WHERE guild_id IS NULL;
CREATE UNIQUE INDEX uq_sandbox_commands_guild ON sandbox_commands (sandbox_id, guild_id, kind, name)
    WHERE guild_id IS NOT NULL;

COMMENT ON COLUMN sandbox_commands.guild_id IS 'Null: the bot has registered it globally';
COMMENT ON COLUMN sandbox_commands.body IS 'What the bot is shown';
COMMENT ON COLUMN sandbox_commands.sent IS 'What the servers get; null: servers do not have it';

-- What Discord has, or may have, because of a sandbox: a row comes before the request, and goes after it. It
-- outlives its sandbox until Discord has removed the command.
CREATE TABLE sandbox_guild_commands (
    guild_id   text NOT NULL,
    kind       smallint NOT NULL,
    name       text NOT NULL,
    command_id text,
    known_id   text NOT NULL,
    digest     text NOT NULL DEFAULT '',
    others     boolean NOT NULL DEFAULT false,

    CONSTRAINT pk_sandbox_guild_commands PRIMARY KEY (guild_id, kind, name)
);

COMMENT ON COLUMN sandbox_guild_commands.command_id IS 'Null: the request has begun, and its end is not known';
COMMENT ON COLUMN sandbox_guild_commands.digest IS 'Of what was sent last; empty while that is not known';
COMMENT ON COLUMN sandbox_guild_commands.others IS 'The server has a command of this name that is not ours to change';

-- Discord takes 200 new commands in a server on one day.
CREATE TABLE sandbox_command_creates (
    guild_id text NOT NULL,
    day      date NOT NULL,
    creates  integer NOT NULL,

    CONSTRAINT pk_sandbox_command_creates PRIMARY KEY (guild_id, day)
);

-- migrate:down

DROP TABLE sandbox_command_creates;
DROP TABLE sandbox_guild_commands;
DROP TABLE sandbox_commands;
