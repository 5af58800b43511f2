"""Brings a server's commands at Discord to what the sandbox that has the server wants.

Discord has one list of commands for each server, and all who use the bot's token share it: production, our
own `/sandbox`, and the sandbox. What is a sandbox's stands in the table `sandbox_guild_commands`, from before
the first request until Discord has removed it. Whatever else is in the list is never changed. One process at
a time writes to a server; one that dies in the middle leaves rows from which the next goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from .postgres import commands as table
from .postgres.commands import Command, Key, Written
from .postgres.pool import Connection, Pool, connected

_log = structlog.get_logger("sandbox.commands")

Json = dict[str, Any]

CREATES_PER_DAY = 200
"""Discord's limit of new commands for each server."""
TOO_MANY_CREATES = {
    "message": f"Max number of daily application command creates has been reached ({CREATES_PER_DAY})",
    "code": 30034,
}
ONLY_GLOBAL = ("contexts", "dm_permission", "handler", "integration_types")
"""Fields that a server's command does not have."""
_OF_DISCORD = frozenset({"application_id", "guild_id", "version", *ONLY_GLOBAL})
OWN = frozenset({(1, "sandbox")})
"""`/sandbox` is published by the bot itself."""
_NOT_THERE = frozenset({10004, 50001})
"""Discord's codes for a server that it does not have, or that the bot is not in."""
_UNKNOWN_COMMAND = 10063
_LOCK_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What Discord answered; `raw` is for whoever asked."""

    status: int
    value: Any
    raw: Any = None

    @property
    def code(self) -> int:
        """Discord's code of an error; 0 without one."""
        return int(self.value.get("code") or 0) if isinstance(self.value, dict) else 0


class GuildCommandsRest(Protocol):
    """Discord's requests for the commands of one server. What can't be sent at all is raised."""

    async def list(self, guild_id: str) -> Answer:
        """Return all, with their localizations."""
        ...

    async def replace(self, guild_id: str, bodies: Sequence[Json]) -> Answer:
        """Replace all."""
        ...

    async def create(self, guild_id: str, body: Json) -> Answer:
        """Create one, or replace the one of the same kind and name."""
        ...

    async def delete(self, guild_id: str, command_id: str) -> Answer:
        """Remove one."""
        ...


@dataclass(frozen=True, slots=True)
class Brought:
    """What came of it: what Discord shows of the wanted commands, or the answer with which it refused."""

    refused: Answer | None = None
    shown: Mapping[Key, Json] = field(default_factory=dict)
    taken: frozenset[Key] = frozenset()
    """Wanted, but somebody else's in this server."""


class ServerBusy(Exception):
    """Another process has been writing to the server for too long."""


def digest_of(sent: Mapping[str, Any] | None) -> str:
    """Return what tells two bodies apart."""
    if sent is None:
        return ""
    return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()


def key_of(command: Mapping[str, Any]) -> Key:
    """Return the kind and the name of a command of Discord's."""
    return int(command.get("type") or 1), str(command.get("name"))


def wanted_in(commands: Iterable[Command], guild_id: str) -> dict[Key, Command]:
    """Return what a server is to have of a sandbox's commands: the server's own before global ones."""
    found: dict[Key, Command] = {}
    for command in commands:
        if command.sent is None or command.guild_id not in {None, guild_id}:
            continue
        if command.guild_id is not None or command.key not in found:
            found[command.key] = command
    return found


def lock_name(guild_id: str) -> str:
    """Return the lock under which a server's commands are read and written."""
    return f"guild {guild_id}"


class GuildCommands:
    """Compares a server's commands with what is wanted, and writes the difference."""

    def __init__(
        self,
        pool: Pool,
        rest: GuildCommandsRest,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._rest = rest
        self._clock = clock

    async def due(self) -> list[str]:
        """Return the servers where something is to be done. Raises `DependencyUnavailable`."""
        async with connected(self._pool) as connection:
            await table.forget_ended(connection, before=self._clock().date())
            return await table.due(connection, at=self._clock())

    async def written(self) -> list[str]:
        """Return the servers that have commands of sandboxes. Raises `DependencyUnavailable`."""
        async with connected(self._pool) as connection:
            return await table.guilds_written(connection)

    async def reconcile(self, guild_id: str, *, look: bool = False) -> Brought:
        """Bring the server to what is wanted now, unless another process just has; with `look` in any case.

        Raises `DependencyUnavailable`, `ServerBusy`, and what the requests raise.
        """
        async with connected(self._pool) as connection:
            await self.lock(connection, guild_id)
            if not look and guild_id not in await table.due(connection, at=self._clock()):
                return Brought()
            holder = await table.holder(connection, guild_id, at=self._clock())
            commands = [] if holder is None else await table.of_sandbox(connection, holder)
            return await self.bring(connection, guild_id, wanted_in(commands, guild_id))

    async def lock(self, connection: Connection, guild_id: str) -> None:
        """Keep others from the server until the connection is given back. Raises `ServerBusy`."""
        if not await table.lock(connection, lock_name(guild_id), within=_LOCK_WITHIN):
            raise ServerBusy

    async def bring(self, connection: Connection, guild_id: str, wanted: Mapping[Key, Command]) -> Brought:
        """Bring the server to this, under its lock. Raises as `reconcile`."""
        rows = {row.key: row for row in await table.written(connection, guild_id)}
        listed = await self._rest.list(guild_id)
        if listed.status != 200:
            if not wanted and listed.code in _NOT_THERE:
                # With the bot its commands have left.
                await table.forget(connection, guild_id, rows)
                return Brought()
            return Brought(refused=listed)
        found: dict[Key, Json] = {key_of(each): each for each in listed.value}
        ours = {key for key, each in found.items() if is_sandboxs(rows.get(key), each)}
        taken = frozenset(key for key in wanted if key in OWN or (key in found and key not in ours))
        change = _Change(
            create=[key for key in wanted if key not in found and key not in taken],
            update=[key for key in wanted if key in ours and rows[key].digest != wanted[key].digest],
            delete=[key for key in ours if key not in wanted],
        )
        await table.note(
            connection,
            guild_id,
            [Written(*key, None, wanted[key].id, wanted[key].digest, True) for key in taken],
        )
        await table.forget(
            connection, guild_id, [key for key in rows if key not in wanted and key not in ours]
        )
        if change.create and await self._creates_used_up(connection, guild_id, len(change.create)):
            return Brought(refused=Answer(400, TOO_MANY_CREATES))
        shown = {key: found[key] for key in wanted if key in ours}
        if change.size:
            await table.note(connection, guild_id, _begun(change, wanted, rows))
            answer, written = await self._write(guild_id, change, wanted, found)
            if answer.status >= 400:
                await self._not_written(connection, guild_id, change, answer)
                return Brought(refused=answer)
            shown |= {key: each for key, each in written.items() if key not in taken}
            await table.forget(connection, guild_id, change.delete)
            if change.create:
                await table.add_creates(connection, guild_id, self._clock().date(), len(change.create))
        done = [key for key in wanted if key in shown]
        await table.note(
            connection,
            guild_id,
            [Written(*key, str(shown[key]["id"]), wanted[key].id, wanted[key].digest, False) for key in done],
        )
        if change.size or taken:
            _log.info(
                "commands_written",
                guild_id=guild_id,
                created=len(change.create),
                updated=len(change.update),
                deleted=len(change.delete),
                names_of_others=sorted(name for _, name in taken),
            )
        return Brought(shown=shown, taken=taken)

    async def _creates_used_up(self, connection: Connection, guild_id: str, creates: int) -> bool:
        used = await table.creates_on(connection, guild_id, self._clock().date())
        return used + creates > CREATES_PER_DAY

    async def _write(
        self, guild_id: str, change: _Change, wanted: Mapping[Key, Command], found: Mapping[Key, Json]
    ) -> tuple[Answer, dict[Key, Json]]:
        if change.size == 1 and change.delete:
            answer = await self._rest.delete(guild_id, str(found[change.delete[0]]["id"]))
            return (Answer(204, None) if answer.code == _UNKNOWN_COMMAND else answer), {}
        if change.size == 1:
            # Nobody else's command can be hit by it.
            (key,) = change.create + change.update
            answer = await self._rest.create(guild_id, _sent(wanted[key]))
            return answer, {key: answer.value} if answer.status < 400 else {}
        answer = await self._rest.replace(guild_id, _union(change, wanted, found))
        if answer.status >= 400:
            return answer, {}
        return answer, {key_of(each): each for each in answer.value if key_of(each) in wanted}

    async def _not_written(
        self, connection: Connection, guild_id: str, change: _Change, answer: Answer
    ) -> None:
        """Discord has changed nothing; after an error of its own that is not sure."""
        if answer.status < 500:
            await table.forget(connection, guild_id, change.create)


@dataclass(frozen=True, slots=True)
class _Change:
    create: list[Key]
    update: list[Key]
    delete: list[Key]

    @property
    def size(self) -> int:
        return len(self.create) + len(self.update) + len(self.delete)


def is_sandboxs(row: Written | None, found: Json) -> bool:
    """Return whether a command of Discord's is there because of a sandbox; `row` is of its kind and name."""
    if row is None or row.others or row.key in OWN:
        return False
    return row.command_id is None or row.command_id == str(found.get("id"))


def _begun(change: _Change, wanted: Mapping[Key, Command], rows: Mapping[Key, Written]) -> Iterable[Written]:
    for key in change.create:
        yield Written(*key, None, wanted[key].id, "", False)
    for key in change.update + change.delete:
        yield replace(rows[key], digest="")


def _sent(command: Command) -> Json:
    return dict(command.sent or {})


def _union(change: _Change, wanted: Mapping[Key, Command], found: Mapping[Key, Json]) -> list[Json]:
    """Return the whole list of the server as it is to be."""
    bodies: list[Json] = []
    for key, each in found.items():
        if key in change.update:
            bodies.append({**_sent(wanted[key]), "id": each["id"]})
        elif key not in change.delete:
            bodies.append({name: value for name, value in each.items() if name not in _OF_DISCORD})
    return bodies + [_sent(wanted[key]) for key in change.create]
