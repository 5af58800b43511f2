"""What may be asked for in a sandbox's life, and the rules of it in their shortest form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import strategies as st

from sandbox_core.manager import ManagerLimits
from sandbox_core.models import Actor, GuildAccess, Sandbox, SandboxStatus

from .conftest import GUILDS

LIMITS = ManagerLimits(default_ttl=timedelta(hours=2), max_ttl=timedelta(hours=6), max_per_owner=2)
ALICE, BOB = Actor("200000000000000001", "Alice"), Actor("200000000000000002", "Bob")
ROOT = Actor("200000000000000009", "Root", is_bot_owner=True)
STORES = ("PostgreSQL", "Redis", "NATS")
POINTS = (
    *("create:inserted", "create:PostgreSQL", "create:Redis", "create:NATS", "create:running"),
    *("create:routes", "destroy:expired", "destroy:destroying", "destroy:routes", "destroy:NATS"),
    *("destroy:Redis", "destroy:PostgreSQL", "destroy:destroyed"),
)
HAS_SCHEMA = {
    SandboxStatus.CREATING,
    SandboxStatus.RUNNING,
    SandboxStatus.EXPIRED,
    SandboxStatus.DESTROYING,
}


@dataclass(frozen=True)
class Create:
    actor: Actor
    name: str
    ttl: str
    guilds: tuple[str, ...]


@dataclass(frozen=True)
class Register:
    actor: Actor
    name: str
    guild: str


@dataclass(frozen=True)
class Unregister:
    actor: Actor
    guild: str
    name: str | None


@dataclass(frozen=True)
class Extend:
    actor: Actor
    name: str
    duration: str


@dataclass(frozen=True)
class Destroy:
    actor: Actor
    name: str


@dataclass(frozen=True)
class Cleanup:
    pass


@dataclass(frozen=True)
class Wait:
    minutes: int


@dataclass(frozen=True)
class Fault:
    """What comes next stops at this point, when it gets there."""

    point: str
    cancelled: bool


@dataclass(frozen=True)
class Away:
    """This store fails, until it is back."""

    store: str
    back: bool


Command = Create | Register | Unregister | Extend | Destroy | Cleanup | Wait | Fault | Away

actors = st.sampled_from([ALICE, ALICE, BOB, ROOT])
names = st.sampled_from(["one-box", "two-box", "red-box"])
guild_ids = st.sampled_from(GUILDS[:3])
durations = st.sampled_from(["1m", "1h", "5h"])
creations = st.builds(Create, actors, names, durations, st.lists(guild_ids, max_size=2).map(tuple))
changes = st.one_of(
    creations,
    st.builds(Register, actors, names, guild_ids),
    st.builds(Unregister, actors, guild_ids, st.none() | names),
    st.builds(Extend, actors, names, durations),
    st.builds(Destroy, actors, names),
    st.builds(Wait, st.sampled_from([1, 30, 61, 300])),
    st.just(Cleanup()),
)
faults = st.one_of(
    st.builds(Fault, st.sampled_from(POINTS), st.booleans()),
    st.builds(Away, st.sampled_from(STORES), st.booleans()),
)


@dataclass
class Box:
    """What the model knows of one sandbox that is not destroyed."""

    owner: str
    created_at: datetime
    expires_at: datetime
    running: bool = True
    guilds: set[str] = field(default_factory=set)


class Model:
    """The rules once more, in their shortest form: what a command answers when nothing fails."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}

    def receives(self, name: str, now: datetime) -> bool:
        box = self.boxes[name]
        return box.running and now < box.expires_at

    def holder(self, guild: str) -> str | None:
        return next((name for name, box in self.boxes.items() if guild in box.guilds), None)

    def taken(self, guild: str, by: str, now: datetime) -> bool:
        holder = self.holder(guild)
        return holder is not None and holder != by and self.receives(holder, now)

    def move(self, guild: str, name: str) -> None:
        for box in self.boxes.values():
            box.guilds.discard(guild)
        self.boxes[name].guilds.add(guild)

    def answer(self, command: Command, now: datetime) -> str:
        """The error code, or "" for success, which is taken into account."""
        match command:
            case Create(actor, name, ttl, guilds):
                if any(self.taken(guild, "", now) for guild in guilds):
                    return "SANDBOX_003"
                if sum(box.owner == actor.id for box in self.boxes.values()) >= LIMITS.max_per_owner:
                    return "SANDBOX_002"
                if name in self.boxes:
                    return "SANDBOX_001"
                self.boxes[name] = Box(actor.id, now, now + length(ttl))
                for guild in guilds:
                    self.move(guild, name)
            case Unregister(actor, guild, name):
                if name is not None and name not in self.boxes:
                    return "SANDBOX_004"
                holder = self.holder(guild)
                if holder is None or name not in {None, holder}:
                    return "SANDBOX_011"
                if not self.may(actor, holder):
                    return "SANDBOX_010"
                self.boxes[holder].guilds.discard(guild)
            case Register() | Extend() | Destroy():
                return self._change(command, command.name, now)
            case Cleanup():
                for name in [each for each in self.boxes if not self.receives(each, now)]:
                    del self.boxes[name]
        return ""

    def _change(self, command: Register | Extend | Destroy, name: str, now: datetime) -> str:
        if name not in self.boxes:
            return "SANDBOX_004"
        if not self.may(command.actor, name):
            return "SANDBOX_010"
        if isinstance(command, Destroy):
            del self.boxes[name]
            return ""
        if not self.receives(name, now):
            return "SANDBOX_008"
        box = self.boxes[name]
        if isinstance(command, Extend):
            wished = box.expires_at + length(command.duration)
            box.expires_at = max(box.expires_at, min(wished, box.created_at + LIMITS.max_ttl))
            return ""
        if self.taken(command.guild, name, now):
            return "SANDBOX_003"
        self.move(command.guild, name)
        return ""

    def may(self, actor: Actor, name: str) -> bool:
        return actor.is_bot_owner or actor.id == self.boxes[name].owner

    def learn(self, rows: Sequence[Sandbox]) -> None:
        """Begin again with what is so."""
        self.boxes = {
            row.name: Box(
                row.owner,
                row.created_at,
                row.expires_at,
                row.status is SandboxStatus.RUNNING,
                set(row.guild_ids),
            )
            for row in rows
        }


def length(duration: str) -> timedelta:
    return timedelta(minutes=int(duration[:-1]) * (60 if duration.endswith("h") else 1))


def access(guild_id: str, *, manages: bool) -> GuildAccess:
    return GuildAccess(guild_id, bot_is_member=True, caller_manages=manages)
