"""Attacks on Redis and Valkey with a sandbox's own login, none of which could hurt a live server.

A command that would is given a wrong word: whoever may not run it is refused for that, before the server
reads its words, and whoever may is told that they are wrong. `{database}` is another database's number.
"""

from __future__ import annotations

from .attacks import Table, denied, nothing, possible

_NOT_PERMITTED, _NOT_RIGHT = "NOPERM", "WRONGPASS"

KEYS = denied(
    _NOT_PERMITTED,
    ("read a text", "GET {other}text"),
    ("read several", "MGET {own}a {other}text"),
    ("read a part", "GETRANGE {other}text 0 -1"),
    ("read and delete", "GETDEL {other}text"),
    ("read a list", "LRANGE {other}list 0 -1"),
    ("read a hash", "HGETALL {other}hash"),
    ("its form", "TYPE {other}text"),
    ("whether it is there", "EXISTS {other}text"),
    ("how long it lives", "PTTL {other}text"),
    ("its inner form", "OBJECT ENCODING {other}text"),
    ("its size", "MEMORY USAGE {other}text"),
    ("its bytes", "DUMP {other}text"),
    ("write", "SET {other}text x"),
    ("write several", "MSET {own}a x {other}text x"),
    ("count up", "INCR {other}counter"),
    ("append", "APPEND {other}text x"),
    ("push", "LPUSH {other}list x"),
    ("delete", "DEL {other}text"),
    ("delete in the background", "UNLINK {other}text"),
    ("rename it away", "RENAME {other}text {own}text"),
    ("rename something over it", "SET {own}a x", "RENAME {own}a {other}text"),
    ("copy it", "COPY {other}text {own}text"),
    ("copy over it", "SET {own}a x", "COPY {own}a {other}text REPLACE"),
    ("let it expire", "EXPIRE {other}text 1"),
    ("keep it for ever", "PERSIST {other}text"),
    ("touch it", "TOUCH {other}text"),
    ("move between lists", "LMOVE {other}list {own}list LEFT LEFT"),
    ("move into its list", "RPUSH {own}list x", "LMOVE {own}list {other}list LEFT LEFT"),
    ("wait at its list", "BLPOP {other}list 1"),
    ("pop from several", "LMPOP 2 {own}list {other}list LEFT"),
    ("store a union in it", "SUNIONSTORE {other}set {own}set"),
    ("a union with its set", "SUNION {own}set {other}set"),
    ("store a sorted union", "ZUNIONSTORE {other}z 1 {own}z"),
    ("store bits", "BITOP AND {other}text {own}a"),
    ("compare texts", "LCS {own}a {other}text"),
    ("merge counts", "PFMERGE {own}p {other}p"),
    ("store places", "GEOSEARCHSTORE {other}g {own}g FROMLONLAT 0 0 BYRADIUS 1 m"),
    ("read a stream", "XREAD STREAMS {other}stream 0"),
    ("add to a stream", "XADD {other}stream * a b"),
    ("a group at its stream", "XGROUP CREATE {other}stream g 0 MKSTREAM"),
    ("watch it", "WATCH {other}text"),
    ("in a transaction", "MULTI", "GET {other}text"),
    ("routes of the bot", "GET sandbox:route:100000000000000001"),
    ("a key of nobody", "SET isolation-trial x EX 60"),
    ("a key that only looks like mine", "SET sandbox:{own_id} x EX 60"),
    ("a pattern as a key", "GET sandbox:*"),
)
SORTING = (
    denied(
        "ERR BY option of SORT denied",
        ("sort by its keys", "RPUSH {own}ids 1", "SORT {own}ids BY {other}w_*"),
    )
    + denied(
        "ERR GET option of SORT denied",
        ("values through SORT", "RPUSH {own}ids 1", "SORT {own}ids GET {other}te*"),
        ("values through SORT_RO", "RPUSH {own}ids 1", "SORT_RO {own}ids GET {other}te*"),
    )
    + denied(
        _NOT_PERMITTED,
        ("store what is sorted", "RPUSH {own}ids 1", "SORT {own}ids STORE {other}list"),
    )
)
NAMES = denied(
    _NOT_PERMITTED,
    ("names step by step", "SCAN 0"),
    ("names of a pattern", "SCAN 0 MATCH {other}*"),
    ("any name", "RANDOMKEY"),
    ("how many", "DBSIZE"),
    ("channels in use", "PUBSUB CHANNELS"),
    ("listeners", "PUBSUB NUMSUB {other}news"),
    ("patterns in use", "PUBSUB NUMPAT"),
    ("clients", "CLIENT LIST"),
    ("users", "ACL LIST"),
    ("names of users", "ACL USERS"),
    ("a user", "ACL GETUSER {other_user}"),
    ("refused logins", "ACL LOG"),
    ("what it may", "ACL DRYRUN {other_user} GET {other}text"),
    ("slow commands", "SLOWLOG GET"),
    ("delays", "LATENCY LATEST"),
    ("the server", "INFO"),
    ("memory", "MEMORY STATS"),
    ("what a doctor says of memory", "MEMORY DOCTOR"),
    ("the configuration", "CONFIG GET *"),
    ("modules", "MODULE LIST"),
    ("commands", "COMMAND"),
    ("the cluster", "CLUSTER INFO"),
    ("keys of a slot", "CLUSTER GETKEYSINSLOT 0 10"),
    ("every command that runs", "MONITOR"),
    ("the role", "ROLE"),
)
CHANNELS = denied(
    _NOT_PERMITTED,
    ("publish to it", "PUBLISH {other}news x"),
    ("listen to it", "SUBSCRIBE {other}news"),
    ("listen to all", "PSUBSCRIBE *"),
    ("listen to a pattern of it", "PSUBSCRIBE {other}*"),
    ("listen to a shard's channel", "SSUBSCRIBE {other}news"),
    ("publish to a shard's channel", "SPUBLISH {other}news x"),
    ("what happens to keys", "PSUBSCRIBE __keyspace@0__:*"),
)
SCRIPTS = denied(
    _NOT_PERMITTED,
    ("a script", "EVAL return_1 0"),
    ("a script that reads", "EVAL_RO return_1 0"),
    ("a stored script", "EVALSHA 0000000000000000000000000000000000000000 0"),
    ("store a script", "SCRIPT LOAD return_1"),
    ("forget scripts", "SCRIPT FLUSH WRONG"),
    ("a function", "FCALL f 0"),
    ("load functions", "FUNCTION LOAD x"),
    ("all functions", "FUNCTION DUMP"),
)
SERVER = denied(
    _NOT_PERMITTED,
    ("empty everything", "FLUSHALL WRONG"),
    ("empty the database", "FLUSHDB WRONG"),
    ("exchange databases", "SWAPDB 0 0"),
    ("another database", "SELECT {database}"),
    ("move to another database", "MOVE {own}a {database}"),
    ("copy to another database", "SET {own}a x", "COPY {own}a {other}text DB {database}"),
    ("a setting", "CONFIG SET no-such-setting 1"),
    ("change a user", "ACL SETUSER {own_user} on"),
    ("delete a user", "ACL DELUSER {own_user}-nobody"),
    ("end its connections", "CLIENT KILL USER {other_user}"),
    ("stop all clients", "CLIENT PAUSE WRONG"),
    ("wake a client", "CLIENT UNBLOCK 0"),
    ("never be dropped", "CLIENT NO-EVICT ON"),
    ("tracking of all keys", "CLIENT TRACKING ON BCAST"),
    ("stop the server", "SHUTDOWN WRONG"),
    ("save in the background", "BGSAVE WRONG"),
    ("another primary", "REPLICAOF 127.0.0.1 WRONG"),
    ("fail over", "FAILOVER WRONG"),
    ("move keys to another server", "MIGRATE 127.0.0.1 1 {own}a 0 WRONG"),
    ("bytes that may crash it", "RESTORE {own}b 0 x"),
)
OFF = (*denied((_NOT_PERMITTED, "ERR DEBUG command not allowed"), ("let it sleep", "DEBUG SLEEP 0")),)
LOGINS = denied(
    _NOT_RIGHT,
    ("log in as the neighbour", "AUTH {other_user} x"),
    ("log in as the bot", "AUTH {bot} x"),
    ("log in as default", "AUTH default x"),
    ("log in with HELLO", "HELLO 3 AUTH {bot} x"),
)
REMAINING = (
    *nothing(
        ("its own name", "ACL WHOAMI"),
    ),
    *possible(
        "Time, an echo and the like tell nothing of others.", ("the time", "TIME"), ("an echo", "ECHO x")
    ),
    *possible(
        "A command may have much to do, and blocks the server for as long; production's server is another.",
        ("a big value", "SETRANGE {own}big 1000000 x"),
        ("a big answer", "GETRANGE {own}big 0 -1"),
    ),
    *possible(
        "Between two measurements a user may store more than its limit: `maxmemory` limits all sandboxes "
        "together.",
        ("many keys", "MSET {own}1 x {own}2 x {own}3 x"),
    ),
)
REDIS: Table = {
    "keys": (*KEYS, *SORTING),
    "names and figures": NAMES,
    "channels": CHANNELS,
    "scripts": SCRIPTS,
    "the server": (*SERVER, *OFF),
    "logging in": LOGINS,
    "within its rights": REMAINING,
}
