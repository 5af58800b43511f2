"""Sample commands: every command that can be confined, in the forms that place its keys differently."""

from __future__ import annotations

import shlex

SEED = """
SET text hello
SET other jello
SET number 7
SET bits ab
PFADD pf1 a b
PFADD pf2 b c
HSET hash name ada age 36
RPUSH list 3 1 2
RPUSH list2 x
SADD set1 a b c
SADD set2 b c d
ZADD zset1 1 a 2 b 3 c
ZADD zset2 2 b 3 c 4 d
GEOADD places 13.361389 38.115556 palermo 15.087269 37.502669 catania
XADD stream 1-1 kind a
XADD stream 2-1 kind b
XADD stream2 1-1 kind c
XGROUP CREATE stream group 0
XGROUP CREATE stream2 group 0
XGROUP CREATE STREAMS STREAMS 0 MKSTREAM
XREADGROUP GROUP group reader COUNT 1 STREAMS stream >
"""
"""What the samples find: one key of each type, or two."""

_SAMPLES = """
PING
PING hello
ECHO text
TIME
WAIT 0 10
WAITAOF 0 0 10
UNWATCH
APPEND text !
BITCOUNT bits
BITCOUNT bits 0 0 BYTE
BITFIELD number GET u8 0 SET u8 8 5
BITFIELD_RO number GET u8 0
BITPOS bits 1
DECR number
DECRBY number 2
DELIFEQ text hello
GET text
GET missing
GETBIT bits 1
GETDEL text
GETEX text EX 100
GETEX text PERSIST
GETRANGE text 1 3
GETSET text new
INCR number
INCRBY number 5
INCRBYFLOAT number 0.5
PFADD pf1 z
PSETEX text 100000 value
SET text value
SET text value EX 100 GET
SET fresh value NX
SETBIT bits 0 1
SETEX text 100 value
SETNX fresh value
SETRANGE text 1 E
STRLEN text
SUBSTR text 0 1
DUMP text
EXPIRE text 100
EXPIRE text 100 NX
EXPIREAT text 4102444800
EXPIRETIME text
PERSIST text
PEXPIRE text 100000
PEXPIREAT text 4102444800000
PEXPIRETIME text
PTTL text
RESTORE fresh 0 <dump> REPLACE
TTL text
TYPE zset1
HDEL hash age
HEXISTS hash name
HEXPIRE hash 100 FIELDS 1 name
HEXPIREAT hash 4102444800 FIELDS 1 name
HEXPIRETIME hash FIELDS 1 name
HGET hash name
HGETALL hash
HGETDEL hash FIELDS 1 name
HGETEX hash EX 100 FIELDS 1 name
HINCRBY hash age 1
HINCRBYFLOAT hash age 0.5
HKEYS hash
HLEN hash
HMGET hash name age missing
HMSET hash name eve
HPERSIST hash FIELDS 1 name
HPEXPIRE hash 100000 FIELDS 1 name
HPEXPIREAT hash 4102444800000 FIELDS 1 name
HPEXPIRETIME hash FIELDS 1 name
HPTTL hash FIELDS 1 name
HRANDFIELD hash 5
HSCAN hash 0 MATCH n*
HSET hash name eve
HSETEX hash EX 100 FIELDS 1 name eve
HSETNX hash fresh 1
HSTRLEN hash name
HTTL hash FIELDS 1 name
HVALS hash
LINDEX list 0
LINSERT list BEFORE 1 0
LLEN list
LPOP list
LPOP list 2
LPOS list 1
LPUSH list 9
LPUSHX list 9
LRANGE list 0 -1
LREM list 1 3
LSET list 0 9
LTRIM list 0 0
RPOP list
RPUSH fresh 1
RPUSHX list 9
SADD set1 z
SCARD set1
SISMEMBER set1 a
SMEMBERS set1
SMISMEMBER set1 a z
SPOP set1 3
SRANDMEMBER set1 5
SREM set1 a
SSCAN set1 0 MATCH a* COUNT 100
ZADD zset1 NX 9 z
ZADD zset1 INCR 1 a
ZCARD zset1
ZCOUNT zset1 1 2
ZINCRBY zset1 1 a
ZLEXCOUNT zset1 - +
ZMSCORE zset1 a z
ZPOPMAX zset1
ZPOPMIN zset1 2
ZRANDMEMBER zset1 5
ZRANGE zset1 0 -1 WITHSCORES
ZRANGE zset1 1 2 BYSCORE LIMIT 0 1
ZRANGEBYLEX zset1 - +
ZRANGEBYSCORE zset1 -inf +inf WITHSCORES
ZRANK zset1 b
ZREM zset1 a
ZREMRANGEBYLEX zset1 - +
ZREMRANGEBYRANK zset1 0 0
ZREMRANGEBYSCORE zset1 1 2
ZREVRANGE zset1 0 -1
ZREVRANGEBYLEX zset1 + -
ZREVRANGEBYSCORE zset1 3 1
ZREVRANK zset1 b
ZSCAN zset1 0
ZSCORE zset1 a
GEOADD places 13.5 37.3 elsewhere
GEODIST places palermo catania km
GEOHASH places palermo
GEOPOS places palermo
GEORADIUS_RO places 15 37 200 km
GEORADIUSBYMEMBER_RO places palermo 200 km
GEOSEARCH places FROMLONLAT 15 37 BYRADIUS 200 km ASC
XACK stream group 1-1
XADD stream 3-1 kind z
XADD fresh NOMKSTREAM 3-1 kind z
XAUTOCLAIM stream group reader 0 0
XCLAIM stream group other 0 1-1 JUSTID
XDEL stream 1-1
XLEN stream
XPENDING stream group
XRANGE stream - +
XREVRANGE stream + - COUNT 1
XSETID stream 9-1
XTRIM stream MAXLEN 1
DEL text number missing
EXISTS text text missing
MGET text number missing
PFCOUNT pf1
PFCOUNT pf1 pf2
PFMERGE fresh pf1 pf2
SDIFF set1 set2
SDIFFSTORE fresh set1 set2
SINTER set1 set2
SINTERSTORE fresh set1 set2
SUNION set1 set2
SUNIONSTORE fresh set1 set2
TOUCH text number missing
UNLINK text number
WATCH text number
MSET text 1 fresh 2
MSETNX fresh 1 fresher 2
MSETEX 2 fresh 1 fresher 2 EX 100
BLPOP missing list list2 1
BRPOP list 1
BZPOPMAX zset1 zset2 1
BZPOPMIN missing zset1 1
BLMOVE list list2 LEFT RIGHT 1
BRPOPLPUSH list list2 1
GEOSEARCHSTORE fresh places FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST
LCS text other
LCS text other LEN
LMOVE list list2 RIGHT LEFT
RENAME text fresh
RENAMENX text fresh
RPOPLPUSH list list2
SMOVE set1 set2 a
ZRANGESTORE fresh zset1 0 -1
LMPOP 2 missing list LEFT COUNT 2
SINTERCARD 2 set1 set2 LIMIT 1
ZDIFF 2 zset1 zset2 WITHSCORES
ZINTER 2 zset1 zset2 WEIGHTS 2 3
ZINTERCARD 2 zset1 zset2
ZMPOP 1 zset1 MAX
ZUNION 2 zset1 zset2 AGGREGATE MAX
BLMPOP 1 2 missing list RIGHT
BZMPOP 1 1 zset1 MIN COUNT 2
ZDIFFSTORE fresh 2 zset1 zset2
ZINTERSTORE fresh 2 zset1 zset2 WEIGHTS 2 3
ZUNIONSTORE fresh 2 zset1 zset2
BITOP AND fresh bits text
BITOP NOT fresh bits
COPY text fresh
COPY text other REPLACE
SORT list
SORT list LIMIT 0 2 DESC ALPHA
SORT list BY nosort STORE fresh
SORT list GET # STORE fresh
SORT_RO list DESC
XREAD STREAMS stream stream2 0 0
XREAD COUNT 1 BLOCK 1 STREAMS stream 1-1
XREADGROUP GROUP group reader STREAMS stream stream2 > >
XREADGROUP GROUP group reader COUNT 1 NOACK STREAMS stream 0
XREADGROUP GROUP STREAMS STREAMS BLOCK 1 STREAMS STREAMS 0
GEORADIUS places 15 37 200 km ASC COUNT 1
GEORADIUS places 15 37 200 km STORE fresh
GEORADIUS places 15 37 200 km COUNT 1 STOREDIST fresh
GEORADIUSBYMEMBER places palermo 200 km
GEORADIUSBYMEMBER places palermo 200 km STORE fresh
XGROUP CREATE stream second $
XGROUP CREATE fresh second $ MKSTREAM
XGROUP CREATECONSUMER stream group another
XGROUP DELCONSUMER stream group reader
XGROUP DESTROY stream group
XGROUP SETID stream group 0
XINFO CONSUMERS stream group
XINFO GROUPS stream
XINFO STREAM stream
OBJECT ENCODING text
OBJECT FREQ text
OBJECT IDLETIME text
OBJECT REFCOUNT text
MEMORY USAGE text
SCAN 0 COUNT 1000
SCAN 0 MATCH s* COUNT 1000 TYPE set
PUBLISH channel hello
SPUBLISH channel hello
PUBSUB NUMSUB channel
PUBSUB SHARDNUMSUB channel
PUBSUB CHANNELS
PUBSUB SHARDCHANNELS chan*
"""

SEED_COMMANDS: tuple[tuple[str, ...], ...] = tuple(
    tuple(shlex.split(line)) for line in SEED.strip().splitlines()
)
SAMPLES: tuple[tuple[str, ...], ...] = tuple(
    tuple(shlex.split(line)) for line in _SAMPLES.strip().splitlines()
)
DUMP_OF_TEXT = "<dump>"
"""Stands for what DUMP gives for a string."""

REFUSED: dict[str, str] = {
    "KEYS *": "redis.scan_iter",
    "RANDOMKEY": "redis.scan_iter",
    "DBSIZE": "redis.scan_iter",
    "FLUSHDB": "redis.unlink",
    "FLUSHALL": "redis.unlink",
    "INFO keyspace": "`GET`",
    "CONFIG SET maxmemory 1": "`GET`",
    "CLIENT LIST": "`GET`",
    "DEBUG SLEEP 0": "`GET`",
    "SHUTDOWN NOSAVE": "`GET`",
    "SELECT 2": "key name",
    "SWAPDB 0 1": "`GET`",
    "MOVE a 2": "key name",
    "COPY a b DB 2": "`GET`",
    "MIGRATE 127.0.0.1 1 a 0 1": "`GET`",
    "SORT a BY other:*": "without patterns",
    "SORT a GET other:* STORE b": "without patterns",
    "SORT_RO a GET other:*": "without patterns",
    "EVAL return{} 0": "redis.transaction",
    "EVAL_RO return{} 0": "redis.transaction",
    "EVALSHA 0000 1 a": "redis.transaction",
    "SCRIPT LOAD return{}": "redis.transaction",
    "SCRIPT FLUSH": "redis.transaction",
    "FCALL name 1 a": "redis.transaction",
    "FUNCTION LIST": "redis.transaction",
    "SUBSCRIBE a": "redis.pubsub",
    "PSUBSCRIBE *": "redis.pubsub",
    "MULTI": "redis.pipeline",
    "EXEC": "redis.pipeline",
    "SCAN 0 NOVEL option": "`GET`",
    "XREAD NOVEL 1 STREAMS a 0": "`GET`",
    "ZUNION many a": "`GET`",
    "JSON.GET a": "`GET`",
    "OBJECT HELP": "`GET`",
}
"""Commands that can't be confined, each with a part of the way out that is offered instead."""
