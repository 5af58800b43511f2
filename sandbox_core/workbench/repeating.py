"""Sends stored events into a sandbox again, in their order and with their own gaps in time.

Each has a new message id, and says in `Sandbox-Origin` that it is a repetition. Its frame stays byte for byte
as it was, but for what `Replayer.replay` names.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from sandbox_core.errors import DoesNotFit, GuildNotRegistered, InvalidInput, SandboxNotFound
from sandbox_core.manager import SandboxManager
from sandbox_core.models import Actor, Sandbox
from sandbox_core.namespaces.nats_writing import SandboxWriting
from sandbox_core.nats.dead_letters import KEPT_HEADERS, ORIGIN, REPLAYED
from sandbox_core.nats.wire import MESSAGE_ID
from sandbox_core.validation import parse_guild_id
from sandbox_core.words import counted

from .emitting import Made, Stored
from .places import Place
from .renewing import Renewal, renewed
from .scrubbing.tokens import without_tokens
from .seen import SeenEvent

REPLAY_EVENTS = "replay events into"
MOST_EVENTS = 50_000
"""How many may be replayed at once."""
_LOOK_AGAIN_AFTER = 1.0
"""Seconds after which what was true of the sandbox is asked again."""
_FASTEST = 1000.0
_SPEED = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)x?\Z", re.ASCII)
_WRITTEN_BY_PEOPLE = "content"


@dataclass(frozen=True, slots=True)
class Speed:
    """How many times faster than they came events are sent; without a factor as fast as possible."""

    factor: float | None = 1.0

    @classmethod
    def parse(cls, text: str) -> Speed:
        """Read `1x`, `10x`, `0.5x` or `max`. Raises `InvalidInput`."""
        cleaned = text.strip().lower()
        if cleaned == "max":
            return cls(None)
        match = _SPEED.match(cleaned)
        if match is None or not 0 < float(match[1]) <= _FASTEST:
            raise InvalidInput("speed", text, "it is none", "`1x`, `10x` or `max`")
        return cls(float(match[1]))


AS_THEY_CAME = Speed()
AT_ONCE = Speed(None)


def fitting_guilds(
    events: Iterable[SeenEvent], target: Sandbox, *, wanted: str | None = None, elsewhere: bool = True
) -> dict[str, str]:
    """Return in which of the target's servers the events of other servers happen.

    With `wanted` all of them in that one; else one to one, in the order in which the events name them and the
    target has its servers, without those that the events are in anyway. `elsewhere` is false when the events
    are the target's own.

    Raises `DoesNotFit` when the target has too few, `GuildNotRegistered` or `InvalidInput`.
    """
    own = dict.fromkeys(event.guild_id for event in events if event.guild_id is not None)
    if wanted is not None:
        cleaned = parse_guild_id(wanted)
        if cleaned not in target.guild_ids:
            raise GuildNotRegistered(cleaned, target.name)
        return dict.fromkeys((each for each in own if each != cleaned), cleaned)
    foreign = [each for each in own if each not in target.guild_ids]
    if foreign and not elsewhere:
        raise GuildNotRegistered(foreign[0], target.name)
    free = [each for each in target.guild_ids if each not in own]
    if len(foreign) > len(free):
        many = counted(len(foreign), "server", "servers")
        problem = f"they are of {many} that {target.name} has not, and it has {len(free)} for them"
        right = "--as-guild sends all of them to one of its servers."
        if not target.guild_ids:
            right = f"sandboxctl register-guild gives {target.name} one."
        raise DoesNotFit("The events", problem, right)
    return dict(zip(foreign, free, strict=False))


class Replayer:
    """Sends events into running sandboxes only: production's stream is not within its reach."""

    def __init__(
        self,
        manager: SandboxManager,
        writing: SandboxWriting,
        *,
        shard_count: int = 1,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` and `monotonic` return seconds."""
        self._manager = manager
        self._writing = writing
        self._shard_count = shard_count
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep

    async def sandbox(self, actor: Actor, reference: str) -> Sandbox:
        """Return the sandbox, if the actor may replay events into it now.

        Raises `SandboxNotFound`, `NotPermitted` or `SandboxNotRunning`.
        """
        sandbox = await self._manager.get(reference)
        self._manager.check_may_manage(actor, sandbox, REPLAY_EVENTS)
        self._manager.check_running(sandbox)
        return sandbox

    async def replay(
        self,
        sandbox: Sandbox,
        events: Sequence[SeenEvent],
        *,
        speed: Speed = AS_THEY_CAME,
        fresh: bool = False,
        guilds: Mapping[str, str] | None = None,
        actor: Actor | None = None,
    ) -> AsyncIterator[Stored]:
        """Send the events, each once the one before is stored, as long after the first one as it came.

        It may take hours. So whether the sandbox runs and has the events' servers, and with `actor` whether
        they still may, is asked again and again.

        Their frames stay, with three exceptions: `guilds` has other ids for servers, `fresh` makes ids of
        messages and interactions, and times, new; and in another sandbox than the event's own a token of an
        interaction or of a voice server is replaced.

        Raises `DependencyUnavailable`, `DoesNotFit`, `GuildNotRegistered`, `NotPermitted`, `SandboxNotFound`
        or `SandboxNotRunning`; the events before it are stored.
        """
        if not events:
            return
        check_number(len(events))
        guilds = guilds or {}
        for event in events:
            _must_be_there(event, sandbox, guilds)
        stream = await self._writing.stream(sandbox.id)
        renewal = Renewal(events, self._moments(events, speed)) if fresh else None
        first, begun = events[0].stored_at, self._monotonic()
        looked = begun
        for event in events:
            if speed.factor is not None:
                due = begun + (event.stored_at - first).total_seconds() / speed.factor
                if (pause := due - self._monotonic()) > 0:
                    await self._sleep(pause)
            if self._monotonic() - looked >= _LOOK_AGAIN_AFTER:
                sandbox = await self._present(sandbox, actor)
                looked = self._monotonic()
                _must_be_there(event, sandbox, guilds)
            self._manager.check_running(sandbox)
            made = self._again(event, sandbox, renewal, guilds)
            yield Stored(made, await stream.write(made.type, made.frame, made.headers))

    async def _present(self, sandbox: Sandbox, actor: Actor | None) -> Sandbox:
        try:
            present = await self._manager.get(str(sandbox.id))
        except SandboxNotFound:
            raise SandboxNotFound(sandbox.name) from None
        if actor is not None:
            self._manager.check_may_manage(actor, present, REPLAY_EVENTS)
        return present

    def _moments(self, events: Sequence[SeenEvent], speed: Speed) -> Callable[[float], float]:
        """Return what an old time becomes: where it was before the first event, it is as long before now."""
        first, last, now = events[0].stored_at.timestamp(), events[-1].stored_at.timestamp(), self._clock()
        if speed.factor is None:
            # The last of them happens now, so that none is of the future.
            return lambda old: old - last + now
        factor = speed.factor
        return lambda old: now + (old - first) / (factor if old > first else 1.0)

    def _again(
        self, event: SeenEvent, sandbox: Sandbox, renewal: Renewal | None, guilds: Mapping[str, str]
    ) -> Made:
        changes = []
        if guilds:
            changes.append(lambda place: _other_guild(place, guilds))
        if renewal is not None:
            changes.append(renewal.change(event))
        frame = renewed(event, changes)
        headers = {name: event.headers[name] for name in KEPT_HEADERS if name in event.headers}
        if headers.get("Sandbox-Id") != str(sandbox.id):
            frame = without_tokens(frame, event.type)
        # It is compressed anew if it has to be.
        headers.pop("Content-Encoding", None)
        headers |= {MESSAGE_ID: f"replay:{uuid4()}", "Sandbox-Id": str(sandbox.id), ORIGIN: REPLAYED}
        guild_id = event.guild_id
        if guild_id is not None and guild_id in guilds:
            guild_id = guilds[guild_id]
            headers["Discord-Guild-Id"] = guild_id
            headers.pop("Discord-Shard", None)
        shard = 0 if guild_id is None else (int(guild_id) >> 22) % self._shard_count
        headers.setdefault("Discord-Shard", str(shard))
        return Made(event.type, guild_id, frame, headers)


def _must_be_there(event: SeenEvent, sandbox: Sandbox, guilds: Mapping[str, str]) -> None:
    """Raise `GuildNotRegistered` unless the sandbox has the server in which the event is to happen."""
    if event.guild_id is None:
        return
    guild_id = guilds.get(event.guild_id, event.guild_id)
    if guild_id not in sandbox.guild_ids:
        raise GuildNotRegistered(guild_id, sandbox.name)


def check_number(events: int) -> None:
    """Raise `DoesNotFit` for more events than may be replayed at once."""
    if events > MOST_EVENTS:
        problem = f"they are more than {MOST_EVENTS:,}"
        raise DoesNotFit("The events", problem, "Choose fewer, such as with --type, --since or --limit.")


def _other_guild(place: Place, guilds: Mapping[str, str]) -> str | None:
    """A server's id is also that of its role for everybody, and a person may write anything."""
    if not place.quoted or (place.path and place.path[-1] == _WRITTEN_BY_PEOPLE and not place.is_key):
        return None
    return guilds.get(place.text)
