"""The scopes of a sandbox's commands as its bot sees them: what calls make of them, and are answered."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from sandbox_core.guild_commands import ONLY_GLOBAL, Json, digest_of
from sandbox_core.postgres.commands import Command
from sandbox_gateway.guard.answers import json_response
from sandbox_gateway.guard.ids import JsonValue

CHAT_INPUT, ENTRY_POINT = 1, 4
_MOST = {1: 100, 2: 15, 3: 15, 4: 1}
"""Discord's limits for each kind of command in a scope."""
_KINDS = frozenset(_MOST)
_LONGEST_NAME = 32
_LARGEST = 2 * 1024 * 1024
"""Of all bodies of a scope in JSON. Discord, which takes less, does not see them before there is a server."""
_EPOCH_MS = 1_420_070_400_000
_IN_SERVERS = 0
"""Discord's number for a command's use in servers, and for an application that was added to servers."""
_IDS = frozenset({"id", "application_id", "guild_id", "version"})
_LOCALIZATIONS = frozenset({"name_localizations", "description_localizations"})


class CallRefused(Exception):
    """Discord refuses such a call; `value` is its answer."""

    def __init__(self, status: int, value: Mapping[str, Any]) -> None:
        super().__init__(str(value.get("message")))
        self.status = status
        self.value = value

    def response(self) -> web.Response:
        """Return the answer for the client."""
        return json_response(self.status, self.value)


def _invalid(path: Sequence[str], code: str, message: str) -> CallRefused:
    errors: dict[str, Any] = {"_errors": [{"code": code, "message": message}]}
    for part in reversed(path):
        errors = {part: errors}
    return CallRefused(400, {"message": "Invalid Form Body", "code": 50035, "errors": errors})


def unknown_command() -> CallRefused:
    """Return Discord's refusal of an id that the scope does not have."""
    return CallRefused(404, {"message": "Unknown application command", "code": 10063})


class _Ids:
    """Makes ids as Discord's: of their moment, growing, and such as no other process makes."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._last = 0

    def next(self) -> str:
        made = (int(self._now() * 1000) - _EPOCH_MS) << 22 | secrets.randbits(21)
        self._last = max(made, self._last + secrets.randbelow(16) + 1)
        return str(self._last)


_IDS_MADE = _Ids()


def new_id() -> str:
    """Return an id that no command has."""
    return _IDS_MADE.next()


@dataclass(frozen=True, slots=True)
class Scope:
    """The commands of one scope of a sandbox: global, or of one server."""

    guild_id: str | None
    commands: tuple[Command, ...]

    @classmethod
    def of(cls, commands: Iterable[Command], guild_id: str | None) -> Scope:
        """Return the scope's part of a sandbox's commands."""
        return cls(guild_id, tuple(each for each in commands if each.guild_id == guild_id))

    def get(self, command_id: str) -> Command:
        """Return one. Raises `CallRefused`."""
        for each in self.commands:
            if each.id == command_id:
                return each
        raise unknown_command()

    def replaced(self, bodies: JsonValue) -> tuple[Command, ...]:
        """Return what a call to overwrite all makes of it. Raises `CallRefused`."""
        if not isinstance(bodies, list):
            raise _invalid((), "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
        by_key = {each.key: each for each in self.commands}
        by_id = {each.id: each for each in self.commands}
        made: list[Command] = []
        for number, given in enumerate(bodies):
            body = _checked(given, (str(number),))
            known = by_id.get(str(body.get("id"))) or by_key.get(_key(body))
            if known is not None and any(each.id == known.id for each in made):
                known = None
            made.append(self._command(body, known))
        return _counted(made)

    def with_one(self, given: JsonValue) -> tuple[tuple[Command, ...], Command, bool]:
        """Return what a call to create one makes of it, that one, and whether it is new.

        Raises `CallRefused`.
        """
        body = _checked(given)
        known = next((each for each in self.commands if each.key == _key(body)), None)
        made = self._command(body, known)
        others = [each for each in self.commands if known is None or each.id != known.id]
        return _counted([*others, made]), made, known is None

    def edited(self, command_id: str, given: JsonValue) -> tuple[tuple[Command, ...], Command]:
        """Return what a call to change one makes of it, and that one. Raises `CallRefused`."""
        known = self.get(command_id)
        if not isinstance(given, dict):
            raise _invalid((), "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
        body = _checked({**known.body, **given, "type": known.kind})
        made = self._command(body, known)
        return _counted([made if each.id == known.id else each for each in self.commands]), made

    def without(self, command_id: str) -> tuple[Command, ...]:
        """Return it without one. Raises `CallRefused`."""
        known = self.get(command_id)
        return tuple(each for each in self.commands if each.id != known.id)

    def _command(self, body: Json, known: Command | None) -> Command:
        kind, name = _key(body)
        sent = _for_servers(body, kind) if self.guild_id is not None or _is_for_servers(body, kind) else None
        digest = digest_of(sent)
        shown = completed(body, kind)
        if known is not None and (known.kind, known.name) == (kind, name):
            same = digest == known.digest and all(
                known.body.get(field) == shown.get(field) for field in ONLY_GLOBAL
            )
            if same and sent is not None:
                return known
        return Command(
            id=new_id() if known is None else known.id,
            guild_id=self.guild_id,
            kind=kind,
            name=name,
            version=new_id(),
            body=shown,
            sent=sent,
            digest=digest,
        )


def _key(body: Mapping[str, Any]) -> tuple[int, str]:
    return int(body.get("type") or CHAT_INPUT), str(body["name"])


def _checked(body: JsonValue, path: tuple[str, ...] = ()) -> Json:
    """Check what has to be right for the tables; the rest Discord says about the first server."""
    if not isinstance(body, dict):
        raise _invalid(path, "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
    kind, name = body.get("type"), body.get("name")
    if kind is not None and (isinstance(kind, bool) or not isinstance(kind, int) or kind not in _KINDS):
        raise _invalid((*path, "type"), "BASE_TYPE_CHOICES", "Value must be one of {1, 2, 3, 4}.")
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME:
        raise _invalid((*path, "name"), "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 32 in length.")
    if (kind or CHAT_INPUT) == CHAT_INPUT and name != name.lower():
        raise _invalid((*path, "name"), "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
    return body


def _counted(commands: Sequence[Command]) -> tuple[Command, ...]:
    keys = [each.key for each in commands]
    if len(set(keys)) != len(keys):
        raise _invalid((), "APPLICATION_COMMANDS_DUPLICATE_NAME", "Application command names must be unique")
    if len(json.dumps([each.body for each in commands])) > _LARGEST:
        raise CallRefused(413, {"message": "Request entity too large", "code": 40005})
    for kind, most in _MOST.items():
        if sum(each.kind == kind for each in commands) > most:
            message = f"Maximum number of application commands reached ({most})"
            raise CallRefused(400, {"message": message, "code": 30032})
    return tuple(commands)


def _is_for_servers(body: Mapping[str, Any], kind: int) -> bool:
    """Whether a global command is to be seen in servers; a server can't have an entry point of its own."""
    if kind == ENTRY_POINT:
        return False
    lists = (body.get("contexts"), body.get("integration_types"))
    return all(not isinstance(each, list) or _IN_SERVERS in each for each in lists)


def _for_servers(body: Mapping[str, Any], kind: int) -> Json:
    sent = {name: value for name, value in body.items() if name not in _IDS and name not in ONLY_GLOBAL}
    sent["type"] = kind
    if kind != CHAT_INPUT:
        # Discord takes neither of them there, and shows an empty description.
        sent.pop("description", None)
        sent.pop("options", None)
    return sent


def completed(body: Mapping[str, Any], kind: int) -> Json:
    """Return a body with what Discord adds to it."""
    permissions = body.get("default_member_permissions")
    done: Json = {
        "type": kind,
        "name": body["name"],
        "name_localizations": body.get("name_localizations"),
        "description": body.get("description") or "",
        "description_localizations": body.get("description_localizations"),
        "default_member_permissions": None if permissions is None else str(permissions),
        "dm_permission": body.get("dm_permission", True) is not False,
        "contexts": body.get("contexts"),
        "integration_types": body.get("integration_types") or [_IN_SERVERS],
        "nsfw": bool(body.get("nsfw")),
    }
    if kind == CHAT_INPUT:
        done["options"] = body.get("options") or []
    if "handler" in body:
        done["handler"] = body["handler"]
    return done


def as_discord_shows(command: Command, found: Mapping[str, Any]) -> Command:
    """Return the command with the body that Discord has made of it, and with its own global fields."""
    body = {name: value for name, value in found.items() if name not in _IDS}
    body.update({name: command.body[name] for name in ONLY_GLOBAL if name in command.body})
    return replace(command, body=body)


def shown(command: Command, application_id: str, *, localizations: bool = True) -> Json:
    """Return the command as the bot is to see it."""
    body: Json = {"id": command.id, "application_id": application_id, "version": command.version}
    body.update(command.body if localizations else _without_localizations(command.body))
    if command.guild_id is not None:
        body["guild_id"] = command.guild_id
    return body


def _without_localizations(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_localizations(each) for each in value]
    if isinstance(value, dict):
        return {
            name: _without_localizations(each) for name, each in value.items() if name not in _LOCALIZATIONS
        }
    return value
