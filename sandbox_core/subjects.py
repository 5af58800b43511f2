"""The only place that builds NATS subjects and Redis keys.

Every token comes from our own ids or is checked here, so that input can never form a subject or key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from .errors import InvalidInput

EVENTS_STREAM = "EVENTS"
EVENTS_PREFIX = "events"
SANDBOX_STREAM = "SANDBOX"
"""The names where no setting gives others; what works with streams takes `StreamNames`."""

ROUTE_KEY_PREFIX = "sandbox:route:"
ROUTE_MOMENT_KEY_PREFIX = "sandbox:route-moment:"
ROUTE_NULL = "__NULL__"
"""The cached value for a guild that is known to be mapped to no sandbox."""

_EVENT_TYPE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")
# Each id has one spelling, as it is a key: `0` in front would be another key for the same guild.
_GUILD_ID = re.compile(r"[1-9][0-9]{16,19}\Z")
_SNOWFLAKE = re.compile(r"(?:0|[1-9][0-9]{0,19})\Z")
_LARGEST_ID = (1 << 64) - 1
_SHORT_ID = re.compile(r"[0-9a-f]{8}\Z")
_SCHEMA = re.compile(r"sandbox_[0-9a-f]{8}\Z")
_CONTROL_SCHEMA = re.compile(r"(?!pg_|information_schema\Z)[a-z_][a-z0-9_]{0,39}\Z")
_OWN_SUBJECT = re.compile(r"sandbox\.([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SLOT_ACCOUNT = re.compile(r"S([0-9]{3})\Z")
# Beside the first tokens that are ours, `$` and `_` begin the server's own subjects.
_PREFIX = re.compile(
    r"(?!sandbox(?:es)?(?:\.|\Z))(?=.{1,100}\Z)[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\Z"
)


@dataclass(frozen=True, slots=True)
class StreamNames:
    """What an installation calls its streams, and its subjects of production's events.

    Made from the settings, whose check makes sure that the names can be used.
    """

    events: str = EVENTS_STREAM
    """The stream of production's events."""
    prefix: str = EVENTS_PREFIX
    """What production's subjects begin with."""
    sandbox: str = SANDBOX_STREAM
    """What the names of the sandboxes' streams begin with, where isolation is by convention."""

    @property
    def events_subjects(self) -> str:
        """Every subject of production's stream: `events.>`."""
        return f"{self.prefix}.>"

    @property
    def production_events(self) -> str:
        """The events of every type: `events.*`. One token, so that `events.dead_letter.…` is none of them."""
        return f"{self.prefix}.*"

    def sandbox_stream(self, sandbox_id: UUID | str) -> str:
        """`SANDBOX_{short id}`: the stream of one sandbox, where isolation is by convention."""
        return f"{self.sandbox}_{checked_sandbox_id(sandbox_id)[:8]}"

    def is_sandbox_stream(self, name: str) -> bool:
        """True for the names that sandboxes' streams can have."""
        begin, _, rest = name.rpartition("_")
        return begin == self.sandbox and _SHORT_ID.match(rest) is not None

    def stream_of(self, subject: str) -> str:
        """The stream that keeps what is published on this subject."""
        sandbox_id = sandbox_of(subject)
        return self.events if sandbox_id is None else self.sandbox_stream(sandbox_id)

    @property
    def recordings(self) -> str:
        """`EVENTS_RECORDINGS`: the stream of recordings."""
        return f"{self.events}_RECORDINGS"

    @property
    def recordings_subjects(self) -> str:
        """Every subject of that stream: `sandboxes.EVENTS.recordings.*`."""
        return f"sandboxes.{self.events}.recordings.*"

    def recording_subject(self, recording_id: UUID) -> str:
        """`sandboxes.EVENTS.recordings.{id}`: one recording."""
        return f"sandboxes.{self.events}.recordings.{recording_id}"

    @property
    def route_announcements_subject(self) -> str:
        """Where an installation's processes tell each other of changed routes; no stream keeps it."""
        return f"sandboxes.{self.events}.routes"

    def production_subject(self, event_type: str) -> str:
        """`events.{TYPE}`. Raises `InvalidInput` when the type can't be a subject token."""
        return f"{self.prefix}.{_checked_type(event_type)}"

    def unattributed_subject(self, event_type: str) -> str:
        """`events.unattributed.{TYPE}`, for events of a guild that can't be told."""
        return f"{self.prefix}.unattributed.{_checked_type(event_type)}"

    def dead_letter_subject(self, reason: str) -> str:
        """`events.dead_letter.{REASON}`, for frames that can't be published where they belong."""
        return f"{self.prefix}.dead_letter.{_checked_type(reason)}"


DEFAULT_NAMES: Final = StreamNames()
"""Those without any setting."""


def is_stream_name(text: str) -> bool:
    """True for a name that a stream can have."""
    return _STREAM.match(text) is not None


def is_production_prefix(text: str) -> bool:
    """True for tokens that production's subjects can begin with, beside the sandboxes' and the server's."""
    return _PREFIX.match(text) is not None


def is_control_schema(name: str) -> bool:
    """True for a schema that can hold the control tables: neither PostgreSQL's own nor a sandbox's."""
    return _CONTROL_SCHEMA.match(name) is not None and not is_schema_name(name)


def is_event_type(text: str) -> bool:
    """True when a gateway's event name can be a subject token."""
    return _EVENT_TYPE.match(text) is not None


def sandbox_subject(sandbox_id: UUID | str, event_type: str) -> str:
    """`sandbox.{sandbox_id}.events.{TYPE}`. Raises `InvalidInput` for a bad type or id."""
    return f"{nats_prefix(sandbox_id)}events.{_checked_type(event_type)}"


def sandbox_subjects(sandbox_id: UUID | str) -> str:
    """`sandbox.{sandbox_id}.events.>`: what a sandbox's stream keeps, where isolation is by convention."""
    return f"{nats_prefix(sandbox_id)}events.>"


def sandbox_events(sandbox_id: UUID | str) -> str:
    """A sandbox's events of every type: `sandbox.{sandbox_id}.events.*`."""
    return f"{nats_prefix(sandbox_id)}events.*"


def sandbox_dead_letter(sandbox_id: UUID | str, reason: str) -> str:
    """`sandbox.{sandbox_id}.events.dead_letter.{REASON}`, for events that a worker could not handle.

    One token more than an event's, so that it is none of `sandbox_events`.
    """
    return f"{nats_prefix(sandbox_id)}events.dead_letter.{_checked_type(reason)}"


def sandbox_dead_letters(sandbox_id: UUID | str) -> str:
    """A sandbox's dead letters of every reason; `*` in place of the id stands for every sandbox."""
    whose = "sandbox.*." if sandbox_id == "*" else nats_prefix(sandbox_id)
    return f"{whose}events.dead_letter.>"


def is_sandbox_event(sandbox_id: UUID | str, subject: str) -> bool:
    """True for a subject of this sandbox's events: a dead letter's is none."""
    event_type = subject.removeprefix(f"{nats_prefix(sandbox_id)}events.")
    return event_type != subject and is_event_type(event_type)


def sandbox_of(subject: str) -> str | None:
    """The id of the sandbox whose subject, or filter of subjects, this is; None when it is none's."""
    match = _OWN_SUBJECT.match(subject)
    return None if match is None else match[1]


def shard_holders_subject(application_id: int) -> str:
    """Where processes ask who runs shards of this application; outside of every stream."""
    return f"sandboxes.gateway.{application_id:d}.holders"


def shard_takeovers_subject(application_id: int) -> str:
    """Where is told who took shards of this application from whom; outside of every stream."""
    return f"sandboxes.gateway.{application_id:d}.takeovers"


def gateway_process_subject(application_id: int, process_id: UUID) -> str:
    """Where one process that runs shards of this application answers; outside of every stream."""
    return f"sandboxes.gateway.{application_id:d}.process.{process_id}"


def sandbox_filter(sandbox_id: UUID | str) -> str:
    """Every subject of one sandbox: `sandbox.{sandbox_id}.>`."""
    return f"{nats_prefix(sandbox_id)}>"


def nats_prefix(sandbox_id: UUID | str) -> str:
    """`sandbox.{sandbox_id}.`: what a worker publishes below."""
    return f"sandbox.{checked_sandbox_id(sandbox_id)}."


def redis_prefix(sandbox_id: UUID | str) -> str:
    """`sandbox:{sandbox_id}:`: the keys that belong to one sandbox."""
    return f"sandbox:{checked_sandbox_id(sandbox_id)}:"


def route_key(guild_id: str) -> str:
    """`sandbox:route:{guild_id}`, the cached route of one guild."""
    if not is_guild_id(guild_id):
        raise InvalidInput("server id", guild_id, "a server id is 17 to 20 digits", "`613425648685547541`")
    return ROUTE_KEY_PREFIX + guild_id


def route_moment_key(guild_id: str) -> str:
    """`sandbox:route-moment:{guild_id}`: as of when the cached route was read."""
    return ROUTE_MOMENT_KEY_PREFIX + route_key(guild_id).removeprefix(ROUTE_KEY_PREFIX)


def gateway_session_key(application_id: int, shard_id: int, shard_count: int) -> str:
    """`sandbox:gateway:{application}:{count}:{shard}`: where a shard's session can be resumed.

    The shard count belongs to it: a session belongs to the sharding it was identified with.
    """
    return f"sandbox:gateway:{application_id}:{shard_count}:{shard_id}"


def channel_guild_key(channel_id: str) -> str:
    """`sandbox:gateway:channel:{id}`: a channel's guild, told among gateway processes."""
    return f"sandbox:gateway:channel:{_checked_snowflake(channel_id)}"


def interaction_guild_key(interaction_id: str) -> str:
    """`sandbox:gateway:interaction:{id}`: the guild of an interaction, told among gateway processes."""
    return f"sandbox:gateway:interaction:{_checked_snowflake(interaction_id)}"


GATEWAY_KEYS = "sandbox:gateway:*"
CLIENT_SESSION_KEYS = "sandbox:gateway:client:*"
SEEN_TOKEN_KEYS = "sandbox:gateway:seen:"  # noqa: S105 (a prefix)
HOLDER_DIGITS = 16
NO_HOLDER = "-" * HOLDER_DIGITS
"""What the value of a session's key begins with: the connection that has it, or nobody."""


def client_session_keys(sandbox_id: UUID) -> str:
    """The pattern of the keys of all sessions of a sandbox's bots."""
    return f"sandbox:gateway:client:{sandbox_id}:*"


def client_session_key(sandbox_id: UUID, session: str) -> str:
    """`sandbox:gateway:client:{sandbox}:{session}`: what a RESUME of an unmodified bot needs.

    `session` is our own hexadecimal number.
    """
    return f"sandbox:gateway:client:{sandbox_id}:{int(session, 16):016x}"


def client_identify_keys(sandbox_id: UUID) -> tuple[str, str]:
    """Set while the sandbox's bots may not identify again, and how often they have, told among processes."""
    stem = f"sandbox:gateway:client-identify:{sandbox_id}"
    return f"{stem}:pause", f"{stem}:count"


WRITE_TRIAL_KEY = "sandbox:gateway:write-trial"
"""A key that nothing ever makes; see `dependencies`."""
LAST_EVENTS_KEY = "sandbox:gateway:last-events"
"""When each guild last had an event in production, told among gateway processes."""

REST_STOPPED_KEY = "sandbox:gateway:rest:stopped"
"""While it exists, Discord wants no sandbox's call."""


def rest_share_key(sandbox_id: UUID | None = None) -> str:
    """`sandbox:gateway:rest:share:{id}`: calls to Discord in this second; without an id of all sandboxes."""
    return f"sandbox:gateway:rest:share:{_or_all(sandbox_id)}"


def rest_invalid_key(sandbox_id: UUID | None = None) -> str:
    """`sandbox:gateway:rest:invalid:{id}`: answers that Discord counts against us, in ten minutes."""
    return f"sandbox:gateway:rest:invalid:{_or_all(sandbox_id)}"


def seen_token_key(kind: str, digest: str) -> str:
    """`sandbox:gateway:seen:{kind}:{digest}`: which sandbox's events had this token."""
    return f"{SEEN_TOKEN_KEYS}{kind}:{digest}"


def ring_key(kind: str, sandbox_id: UUID) -> str:
    """`sandbox:gateway:{kind}:{id}`: the last calls, or sessions, of a sandbox's bot."""
    return f"sandbox:gateway:{kind}:{sandbox_id}"


def _or_all(sandbox_id: UUID | None) -> str:
    return "all" if sandbox_id is None else str(sandbox_id)


SLOT_STREAM, SLOT_DEAD_LETTERS = "SANDBOX", "DEAD_LETTERS"
SLOTS_AT_MOST = 1000
"""A slot's number has three digits."""


def slot_account(slot: int) -> str:
    """`S000`: the account of a slot on the sandboxes' NATS server."""
    return f"S{_slot_digits(slot)}"


def slot_of_account(account: str) -> int | None:
    """The slot whose account this is; None when it is none's."""
    match = _SLOT_ACCOUNT.match(account)
    return None if match is None else int(match[1])


def slot_api(slot: int) -> str:
    """`$JS.S000.API`: how the bot asks JetStream in a slot's account."""
    return f"$JS.{slot_account(slot)}.API"


def slot_subject(slot: int, subject: str) -> str:
    """`slot.000.{sandbox_id}.events.…`: where the bot publishes what `sandbox.{sandbox_id}.events.…` gets.

    Raises `InvalidInput` for another subject.
    """
    sandbox_id = sandbox_of(subject)
    rest = subject.removeprefix(f"sandbox.{sandbox_id}.")
    if sandbox_id is None or not rest.startswith("events."):
        raise InvalidInput("subject", subject, "it is no sandbox's event", "`sandbox.{id}.events.READY`")
    return f"slot.{_slot_digits(slot)}.{sandbox_id}.{rest}"


def slot_exports(slot: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """What a slot's account lets the bot do, each with the subject that the bot uses for it."""
    events = f"slot.{_slot_digits(slot)}.*.events.>"
    return ("sandbox.*.events.>", events), ("$JS.API.>", f"{slot_api(slot)}.>")


def slot_streams(sandbox_id: UUID | str) -> dict[str, str]:
    """The streams in a slot's account with their subjects: events, and dead letters, which a worker sends."""
    return {
        SLOT_STREAM: sandbox_events(sandbox_id),
        SLOT_DEAD_LETTERS: f"{nats_prefix(sandbox_id)}events.dead_letter.*",
    }


def sandbox_user(sandbox_id: UUID | str) -> str:
    """`sandbox-{sandbox_id}`: the name with which a sandbox's worker logs in."""
    return f"sandbox-{checked_sandbox_id(sandbox_id)}"


def sandbox_of_user(user: str) -> str | None:
    """The id of the sandbox whose worker logs in with this name; None when it is none's."""
    sandbox_id = user.removeprefix("sandbox-")
    return sandbox_id if sandbox_id != user and is_sandbox_id(sandbox_id) else None


def _slot_digits(slot: int) -> str:
    if not 0 <= slot < SLOTS_AT_MOST:
        raise InvalidInput("slot", str(slot), f"it is not 0 to {SLOTS_AT_MOST - 1}", "`12`")
    return f"{slot:03d}"


def is_snowflake(text: str) -> bool:
    """True for the digits that Discord's ids consist of."""
    return _SNOWFLAKE.match(text) is not None and int(text) <= _LARGEST_ID


def is_guild_id(text: str) -> bool:
    """True for 17 to 20 digits without a leading zero, the only ids that a guild can be mapped by."""
    return _GUILD_ID.match(text) is not None and int(text) <= _LARGEST_ID


def is_sandbox_id(text: str) -> bool:
    """True for a UUID in the one form that subjects and keys are built from."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def schema_name(short_id: str) -> str:
    """`sandbox_{short_id}`. Raises `InvalidInput` unless it is 8 hex digits."""
    name = f"sandbox_{short_id}"
    if not is_schema_name(name):
        raise InvalidInput("sandbox id", short_id, "it is not 8 hex digits", "`3f2a9c01`")
    return name


def is_schema_name(name: str) -> bool:
    """True only for names this project gives: `sandbox_prod_backup` is somebody else's."""
    return _SCHEMA.match(name) is not None


def _checked_type(event_type: str) -> str:
    if not is_event_type(event_type):
        raise InvalidInput("event type", event_type, "it is not A-Z, 0-9 and _", "`MESSAGE_CREATE`")
    return event_type


def _checked_snowflake(text: str) -> str:
    if not is_snowflake(text):
        raise InvalidInput("Discord id", text, "it is not up to 20 digits", "`613425648685547541`")
    return text


def checked_sandbox_id(sandbox_id: UUID | str) -> str:
    """The id in the one form that subjects and keys are built from. Raises `InvalidInput` for no UUID."""
    if isinstance(sandbox_id, UUID):
        return str(sandbox_id)
    if not is_sandbox_id(sandbox_id):
        raise InvalidInput("sandbox id", sandbox_id, "it is not a UUID", "`3f2a9c01-…`")
    return sandbox_id
