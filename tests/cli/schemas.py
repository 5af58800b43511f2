"""JSON schemas of what `--json` writes: the keys of `docs/cli.md`, all of them and no others."""

from __future__ import annotations

from typing import Any

import jsonschema

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
MOMENT: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
MAYBE_MOMENT: Schema = {"anyOf": [MOMENT, {"type": "null"}]}
SNOWFLAKE: Schema = {"type": "string", "pattern": "^[0-9]{17,20}$"}
UUID: Schema = {"type": "string", "format": "uuid", "minLength": 36, "maxLength": 36}


def keys(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_RECORDING = keys(
    id=UUID,
    name=TEXT,
    owner=SNOWFLAKE,
    sandbox=MAYBE_TEXT,
    status={"enum": ["recording", "stopping", "importing", "ended"]},
    began_at=MOMENT,
    ended_at=MAYBE_MOMENT,
    reason=MAYBE_TEXT,
    events={"type": "integer", "minimum": 0},
    bytes={"type": "integer", "minimum": 0},
    missed={"type": "integer", "minimum": 0},
    gaps={"type": "integer", "minimum": 0},
    scrubbed={"type": "boolean"},
    recorded_now={"type": "boolean"},
)
_STORED = keys(
    store=TEXT,
    bytes={"type": "integer", "minimum": 0},
    items={"type": "integer", "minimum": 0},
    level={"enum": ["room", "near", "full"]},
    measured_at=MOMENT,
)
SANDBOX = keys(
    id=UUID,
    short_id={"type": "string", "pattern": "^[0-9a-f]{8}$"},
    name=TEXT,
    owner=SNOWFLAKE,
    owner_name=MAYBE_TEXT,
    status={"enum": ["pending", "creating", "running", "expired", "destroying", "destroyed"]},
    receives_events={"type": "boolean"},
    guild_ids=listed(SNOWFLAKE),
    isolation={"enum": ["enforced", "convention"]},
    level={"enum": ["read_only", "no_moderation", "full"]},
    shared_with=listed(keys(user_id=SNOWFLAKE, name=MAYBE_TEXT, access={"enum": ["see", "use"]})),
    schema=TEXT,
    template=MAYBE_TEXT,
    resetting={"type": "boolean"},
    redis_prefix=TEXT,
    nats_prefix=TEXT,
    created_at=MOMENT,
    expires_at=MOMENT,
    last_activity_at=MAYBE_MOMENT,
    destroyed_at=MAYBE_MOMENT,
    events_dropped={"type": "integer", "minimum": 0},
    events_dropped_since=MAYBE_MOMENT,
    stored=listed(_STORED),
)
_CLIENTS: Schema = {"type": ["integer", "null"], "minimum": 0}
_LISTED: Schema = {
    **SANDBOX,
    "properties": {**SANDBOX["properties"], "clients": _CLIENTS},
    "required": [*SANDBOX["required"], "clients"],
}
_LIMIT = keys(
    store=TEXT,
    what=TEXT,
    used={"type": ["integer", "null"], "minimum": 0},
    limit={"type": "number", "exclusiveMinimum": 0},
    measured_at=MAYBE_MOMENT,
)
_COUNT: Schema = {"type": "integer", "minimum": 0}
_CONSUMER = keys(
    name=TEXT, durable={"type": "boolean"}, lag=_COUNT, unacknowledged=_COUNT, redelivered=_COUNT
)
_SESSION = keys(session=TEXT, library=MAYBE_TEXT, connected={"type": "boolean"}, lag=_CLIENTS)
_BACKLOG = keys(
    stored=_CLIENTS,
    dead_letters=_CLIENTS,
    consumers={"anyOf": [listed(_CONSUMER), {"type": "null"}]},
    consumers_unknown={"anyOf": [listed(TEXT), {"type": "null"}]},
    consumers_unread=_CLIENTS,
    sessions={"anyOf": [listed(_SESSION), {"type": "null"}]},
    unread={"type": "object", "additionalProperties": TEXT},
)
_PART = keys(
    store=TEXT,
    state={"enum": ["healthy", "degraded", "unhealthy"]},
    detail={"type": "string"},
    latency_ms={"type": "number", "minimum": 0},
    facts={"type": "object", "additionalProperties": {"type": ["string", "number"]}},
)
_ORPHAN = {"store": TEXT, "id": TEXT, "name": TEXT, "known": {"type": "boolean"}}
ORPHANS = keys(
    found=listed(keys(**_ORPHAN)),
    removed=listed(keys(**_ORPHAN)),
    failed=listed(keys(**_ORPHAN, reason=TEXT)),
    damaged=listed(keys(id=UUID, name=TEXT, missing=TEXT)),
    unreadable={"type": "object", "additionalProperties": TEXT},
)
_NUMBER: Schema = {"type": "string", "pattern": "^[0-9]+$"}
_LETTER = {
    "id": _NUMBER,
    "event": MAYBE_TEXT,
    "subject": MAYBE_TEXT,
    "message_id": MAYBE_TEXT,
    "guild_id": MAYBE_TEXT,
    "consumer": MAYBE_TEXT,
    "deliveries": {"type": ["integer", "null"]},
    "error": MAYBE_TEXT,
    "stored_at": MAYBE_MOMENT,
    "replayable": {"type": "boolean"},
}
_NOT_DONE = keys(id=_NUMBER, code=TEXT, message=TEXT)
PROCESSES: Schema = listed(TEXT)
SCHEMAS: dict[str, Schema] = {
    "create": keys(sandbox=SANDBOX, unconfirmed=PROCESSES),
    "list": keys(sandboxes=listed(_LISTED)),
    "status": keys(
        sandbox=SANDBOX,
        clients=_CLIENTS,
        overall={"enum": ["healthy", "degraded", "unhealthy"]},
        parts=listed(_PART),
        limits=listed(_LIMIT),
        backlog=_BACKLOG,
        checked_at=MOMENT,
    ),
    "status away": keys(error=keys(code=TEXT, message=TEXT), checked_at=MOMENT),
    "register-guild": keys(
        sandbox=SANDBOX,
        guild_id=SNOWFLAKE,
        guild_name=MAYBE_TEXT,
        checked={"type": "boolean"},
        already={"type": "boolean"},
        unconfirmed=PROCESSES,
    ),
    "unregister-guild": keys(sandbox=SANDBOX, guild_id=SNOWFLAKE, unconfirmed=PROCESSES),
    "unregister-guild --all": keys(
        unregistered=listed(keys(guild_id=SNOWFLAKE, name=TEXT)),
        failed=listed(keys(guild_id=SNOWFLAKE, name=TEXT, code=TEXT, message=TEXT)),
        unconfirmed=PROCESSES,
    ),
    "level": keys(sandbox=SANDBOX, level={"enum": ["read_only", "no_moderation", "full"]}),
    "share": keys(
        sandbox=SANDBOX,
        user_id=SNOWFLAKE,
        access={"enum": ["see", "use", None]},
        already={"type": "boolean"},
    ),
    "production-token": keys(DISCORD_TOKEN=TEXT, DISCORD_API_URL=TEXT, DISCORD_GATEWAY_URL=TEXT),
    "production-token --revoke": keys(revoked={"type": "boolean"}),
    "sessions": keys(sessions=listed(keys(at=MOMENT, what=TEXT, details={"type": "object"}))),
    "calls": keys(
        calls=listed(
            keys(
                at=MOMENT,
                method=TEXT,
                route={"type": "string"},
                status={"type": "integer"},
                refused=MAYBE_TEXT,
                ms={"type": "number", "minimum": 0},
            )
        )
    ),
    "extend": keys(sandbox=SANDBOX, capped={"type": "boolean"}),
    "reset": keys(sandbox=SANDBOX),
    "destroy": keys(
        destroyed=listed(SANDBOX),
        failed=listed(keys(name=TEXT, code=TEXT, message=TEXT)),
        unconfirmed=PROCESSES,
    ),
    "connect": keys(
        SANDBOX_ID=UUID,
        SANDBOX_NAME=TEXT,
        SANDBOX_SCHEMA=TEXT,
        SANDBOX_REDIS_PREFIX=TEXT,
        SANDBOX_NATS_PREFIX=TEXT,
        SANDBOX_GUILD_IDS={"type": "string"},
    ),
    "audit": keys(
        entries=listed(
            keys(
                id=_NUMBER,
                sandbox_id=UUID,
                event=TEXT,
                actor=TEXT,
                details={"type": "object"},
                created_at=MOMENT,
            )
        )
    ),
    "deadletters list": keys(letters=listed(keys(**_LETTER)), total={"type": "integer"}),
    "deadletters show": keys(letter=keys(**_LETTER, payload={"type": "string"})),
    "deadletters replay": keys(replayed=listed(_NUMBER), failed=listed(_NOT_DONE)),
    "events emit": keys(
        emitted=listed(
            keys(
                id=_NUMBER,
                message_id=TEXT,
                event=TEXT,
                guild_id=MAYBE_TEXT,
                bytes={"type": "integer", "minimum": 1},
            )
        ),
        invented=MAYBE_TEXT,
    ),
    "record": keys(recording=_RECORDING),
    "recordings list": keys(recordings=listed(_RECORDING)),
    "recordings show": keys(
        recording=_RECORDING, seconds={"type": ["number", "null"]}, types={"type": "object"}
    ),
    "recordings import": keys(recording=_RECORDING),
    "events replay": keys(
        replayed=listed(
            keys(
                **{"from": _NUMBER},
                id=_NUMBER,
                message_id=TEXT,
                event=TEXT,
                guild_id=MAYBE_TEXT,
                bytes={"type": "integer", "minimum": 1},
            )
        )
    ),
    "events emit --list": keys(
        types=listed(keys(event=TEXT, about=TEXT, guild_id_at=TEXT, emittable={"type": "boolean"}))
    ),
    "deadletters drop": keys(dropped=listed(_NUMBER), failed=listed(_NOT_DONE)),
    "cleanup": keys(
        destroyed=listed(SANDBOX),
        failed=listed(
            keys(
                id=UUID,
                name=TEXT,
                step=TEXT,
                reason=TEXT,
                attempts={"type": "integer"},
                next_attempt_at=MOMENT,
            )
        ),
        left_to_others={"type": "integer"},
        orphans=ORPHANS,
    ),
    "orphans": ORPHANS,
    "doctor": keys(
        ok={"type": "boolean"},
        checks=listed(
            keys(
                area=TEXT,
                where=MAYBE_TEXT,
                state={"enum": ["ok", "note", "failed", "away"]},
                detail=TEXT,
                mend=MAYBE_TEXT,
                commands=listed(TEXT),
            )
        ),
    ),
    "doctor --isolation": keys(
        ok={"type": "boolean"},
        isolation={"enum": ["enforced", "convention"]},
        tried={"type": "integer"},
        denied={"type": "integer"},
        possible={"type": "integer"},
        seconds={"type": "number"},
        servers=listed(
            keys(
                server=TEXT,
                where=MAYBE_TEXT,
                away=MAYBE_TEXT,
                attacks=listed(
                    keys(
                        group=TEXT,
                        what=TEXT,
                        result={"enum": ["denied", "possible", "failed"]},
                        came_back=MAYBE_TEXT,
                        reason=MAYBE_TEXT,
                    )
                ),
            )
        ),
        left=listed(TEXT),
    ),
    "migrate": keys(direction={"enum": ["up", "down"]}),
}


def check(command: str, answer: object) -> None:
    """Raise unless `answer` is what `command` is documented to write."""
    jsonschema.validate(answer, SCHEMAS[command])
