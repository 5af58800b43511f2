#!/bin/sh
# For docker-compose.yml: lets only the user `bot` in, with REDIS_PASSWORD, then starts as the image does.
# The list of users is never saved: those of sandboxes are made again by the bot.
set -eu
umask 077

users=${TMPDIR:-/tmp}/users.acl
hash=$(printf %s "$REDIS_PASSWORD" | sha256sum | cut -d ' ' -f 1)
printf 'user default off\nuser bot on #%s ~* &* +@all\n' "$hash" > "$users"
if id valkey > /dev/null 2>&1; then
    chown valkey "$users"
fi

exec docker-entrypoint.sh valkey-server --aclfile "$users" --save "" --appendonly yes "$@"
