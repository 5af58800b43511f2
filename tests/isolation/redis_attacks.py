"""More attacks on Redis and Valkey, which only tests may try: if it went through, one could do harm."""

from __future__ import annotations

from sandbox_core.isolation.attacks import denied, every
from sandbox_core.isolation.redis_attacks import REDIS as SAFE

OTHERS = (
    *denied(
        "NOPERM",
        ("a key of nobody that stays", "SET anything x"),
        ("a key that only looks like mine, and stays", "SET sandbox:{own_id} x"),
        ("all names", "KEYS *"),
        ("the bot's channel", "PUBLISH sandbox:channels x"),
        ("forget all scripts", "SCRIPT FLUSH"),
        ("end a script", "SCRIPT KILL"),
        ("empty all databases", "FLUSHALL"),
        ("empty one database", "FLUSHDB"),
        ("exchange two databases", "SWAPDB 0 1"),
        ("a setting that exists", "CONFIG SET maxmemory 1"),
        ("forget figures", "CONFIG RESETSTAT"),
        ("a new user", "ACL SETUSER x on nopass ~* +@all"),
        ("more rights", "ACL SETUSER {own_user} ~*"),
        ("delete its user", "ACL DELUSER {other_user}"),
        ("keep users", "ACL SAVE"),
        ("end the bot's connections", "CLIENT KILL USER bot"),
        ("stop all clients for a time", "CLIENT PAUSE 1000"),
        ("wake its client", "CLIENT UNBLOCK 1"),
        ("stop the server at once", "SHUTDOWN NOSAVE"),
        ("save", "SAVE"),
        ("save beside it", "BGSAVE"),
        ("rewrite its file", "BGREWRITEAOF"),
        ("a primary that exists", "REPLICAOF 127.0.0.1 1"),
        ("be a replica", "PSYNC ? -1"),
        ("be a replica, the old way", "SYNC"),
        ("fail over at once", "FAILOVER"),
        ("move keys to a server that exists", "MIGRATE 127.0.0.1 1 {own}a 0 1000"),
        ("free memory", "MEMORY PURGE"),
    ),
    *denied("ERR DEBUG command not allowed", ("let it sleep for a time", "DEBUG SLEEP 1")),
    *denied("ERR MODULE command not allowed", ("a module", "MODULE LOAD /tmp/x.so")),
)
REDIS = (*every(SAFE), *OTHERS)
