"""Puts an event that we have made into a sandbox's stream, as if it had come from Discord.

It says of itself that it was made: its message id begins with `emit:`, and `Sandbox-Origin` is `emitted`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from sandbox_core.errors import DoesNotFit, GuildNotRegistered, InvalidInput
from sandbox_core.events.table import GuildLocation, guild_location
from sandbox_core.manager import SandboxManager
from sandbox_core.manager.rules import MAKE_EVENTS
from sandbox_core.models import Actor, Sandbox
from sandbox_core.namespaces.nats_writing import SandboxWriting
from sandbox_core.nats.dead_letters import ORIGIN
from sandbox_core.nats.wire import MESSAGE_ID
from sandbox_core.subjects import is_guild_id
from sandbox_core.validation import parse_guild_id

from .fixtures.changes import MOST_BYTES, Change, apply

EMITTED = "emitted"
MOST_EVENTS = 1000
"""How many may be made at once."""


@dataclass(frozen=True, slots=True)
class Made:
    """An event that is to be stored."""

    type: str
    guild_id: str | None
    frame: bytes
    headers: dict[str, str]

    @property
    def message_id(self) -> str:
        """What it is known by."""
        return self.headers[MESSAGE_ID]


class Stored(NamedTuple):
    """An event, and its number in the sandbox's stream."""

    event: Made
    number: int


def guild_to_use(sandbox: Sandbox, asked: str | None) -> str:
    """Return the server in which an event is to happen: the sandbox's first one unless another is asked for.

    Raises `GuildNotRegistered`, or `InvalidInput`.
    """
    if asked is not None:
        cleaned = parse_guild_id(asked)
        if cleaned not in sandbox.guild_ids:
            raise GuildNotRegistered(cleaned, sandbox.name)
        return cleaned
    if not sandbox.guild_ids:
        raise InvalidInput(
            "sandbox",
            sandbox.name,
            "no server is registered with it, so no event can happen there",
            f"`/sandbox register-guild name:{sandbox.name} guild:613425648685547541`",
        )
    return sandbox.guild_ids[0]


def make(
    sandbox: Sandbox, event_type: str, data: dict[str, Any], *, sequence: int = 1, shard_count: int = 1
) -> Made:
    """Return the event with this `d`. Raises `DoesNotFit`, or `GuildNotRegistered` for a foreign server."""
    guild_id = guild_of(event_type, data)
    if guild_id is not None and guild_id not in sandbox.guild_ids:
        raise GuildNotRegistered(guild_id, sandbox.name)
    try:
        # The keys in Discord's order, as the gateway of sandboxes likes them best.
        frame = json.dumps(
            {"t": event_type, "s": sequence, "op": 0, "d": data}, separators=(",", ":"), allow_nan=False
        ).encode("ascii")
    except ValueError:
        raise DoesNotFit(
            "The event", "a number in it is too large", "JSON has no infinite numbers."
        ) from None
    if len(frame) > MOST_BYTES:
        raise DoesNotFit("The event", f"it has {len(frame):,} bytes", f"An event may have {MOST_BYTES:,}.")
    headers = {
        MESSAGE_ID: f"emit:{uuid4()}",
        "Discord-Event": event_type,
        "Discord-Shard": str(0 if guild_id is None else (int(guild_id) >> 22) % shard_count),
        "Sandbox-Id": str(sandbox.id),
        ORIGIN: EMITTED,
    }
    if guild_id is not None:
        headers["Discord-Guild-Id"] = guild_id
    return Made(event_type, guild_id, frame, headers)


class Emitter:
    """Stores what was made, in running sandboxes only: production's stream is not within its reach."""

    def __init__(self, manager: SandboxManager, writing: SandboxWriting, *, shard_count: int = 1) -> None:
        self._manager = manager
        self._writing = writing
        self._shard_count = shard_count

    async def sandbox(self, actor: Actor, reference: str) -> Sandbox:
        """Return the sandbox, if the actor may make events in it now.

        Raises `SandboxNotFound`, `NotPermitted` or `SandboxNotRunning`.
        """
        sandbox = await self._manager.get(reference)
        self._manager.check_may_manage(actor, sandbox, MAKE_EVENTS)
        self._manager.check_running(sandbox)
        return sandbox

    async def emit(
        self,
        sandbox: Sandbox,
        event_type: str,
        data: Callable[[], dict[str, Any]],
        *,
        changes: Sequence[Change] = (),
        count: int = 1,
    ) -> AsyncIterator[Stored]:
        """Make `count` events, each once the one before is stored; `data` returns each one's `d`.

        Raises `DependencyUnavailable`, `DoesNotFit`, `GuildNotRegistered` or `SandboxNotRunning`; the events
        before it are stored.
        """
        stream = await self._writing.stream(sandbox.id)
        for sequence in range(1, min(count, MOST_EVENTS) + 1):
            self._manager.check_running(sandbox)
            own = data()
            apply(own, changes)
            made = make(sandbox, event_type, own, sequence=sequence, shard_count=self._shard_count)
            yield Stored(made, await stream.write(made.type, made.frame, made.headers))


def guild_of(event_type: str, data: dict[str, Any]) -> str | None:
    """Return the id at the type's own place. Raises `DoesNotFit` where it is missing, or is no id."""
    location = guild_location(event_type)
    match location:
        case GuildLocation.NONE:
            return None
        case GuildLocation.OWN_ID:
            found = data.get("id")
        case GuildLocation.META:
            meta = data.get("meta")
            found = meta.get("guild_id") if isinstance(meta, dict) else None
        case _:
            found = data.get("guild_id")
    if found is None and location is GuildLocation.OPTIONAL:
        return None
    if not isinstance(found, str) or not is_guild_id(found):
        place = location.value.removesuffix("?")
        raise DoesNotFit("The event", f"{place} is no server's id", "It is a text of 17 to 20 digits.")
    return found
