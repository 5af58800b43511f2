"""The application commands that a bot has synced.

The sync requests replace or change them. As in Discord's client, only synced commands can be used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from discord_sim.errors import ApiError, SimUnknownCommand, invalid_form, unknown
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.snowflake import SnowflakeFactory

CHAT_INPUT = 1
KINDS = frozenset({1, 2, 3, 4})
SUB_COMMAND = 1
SUB_COMMAND_GROUP = 2
COMMANDS_LIMIT = 100
OPTIONS_LIMIT = 25
# Discord's own pattern also allows the letters of Devanagari and Thai.
NAME = re.compile(r"^[-_'\w\u0900-\u097F\u0E00-\u0E7F]{1,32}$")


class CommandRegistry:
    """Synced commands by scope: a guild's id, or None for global commands."""

    def __init__(self, application_id: int, snowflakes: SnowflakeFactory) -> None:
        self._application_id = application_id
        self._snowflakes = snowflakes
        self._scopes: dict[int | None, dict[int, Json]] = {}

    def in_scope(self, guild_id: int | None) -> list[Json]:
        """Return the commands of one scope."""
        return list(self._scopes.get(guild_id, {}).values())

    def get(self, guild_id: int | None, command_id: int) -> Json:
        """Return one command. Raises `ApiError` 404 with code 10063 when it does not exist."""
        try:
            return self._scopes[guild_id][command_id]
        except KeyError:
            raise unknown("application command", 10063) from None

    def replace(self, guild_id: int | None, bodies: JsonValue) -> list[Json]:
        """Replace all commands of a scope; a command with the same name and type keeps its id."""
        if not isinstance(bodies, list) or not all(isinstance(b, dict) for b in bodies):
            raise invalid_form("_", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
        if len(bodies) > COMMANDS_LIMIT:
            raise ApiError(400, 30032, "Maximum number of application commands reached (100)")
        old = {(c["name"], c["type"]): c for c in self.in_scope(guild_id)}
        fresh: dict[int, Json] = {}
        names: set[tuple[str, int]] = set()
        for number, body in enumerate(bodies):
            key = (body.get("name", ""), _kind(body))
            if key in names:
                raise invalid_form(
                    str(number),
                    "APPLICATION_COMMANDS_DUPLICATE_NAME",
                    "Application command names must be unique",
                )
            names.add(key)
            known = old.get(key)
            command = self._command(guild_id, body, None if known is None else int(known["id"]))
            fresh[int(command["id"])] = command
        self._scopes[guild_id] = fresh
        return self.in_scope(guild_id)

    def create(self, guild_id: int | None, body: Json) -> tuple[Json, bool]:
        """Create a command, or overwrite the one with its name. Return it, and whether it is new."""
        scope = self._scopes.setdefault(guild_id, {})
        for command_id, known in scope.items():
            if (known["name"], known["type"]) == (body.get("name"), _kind(body)):
                scope[command_id] = self._command(guild_id, body, command_id)
                return scope[command_id], False
        command = self._command(guild_id, body, None)
        scope[int(command["id"])] = command
        return command, True

    def edit(self, guild_id: int | None, command_id: int, body: Json) -> Json:
        """Change parts of a command."""
        merged = {**self.get(guild_id, command_id), **body}
        self._scopes[guild_id][command_id] = self._command(guild_id, merged, command_id)
        return self._scopes[guild_id][command_id]

    def delete(self, guild_id: int | None, command_id: int) -> None:
        """Remove a command."""
        self.get(guild_id, command_id)
        del self._scopes[guild_id][command_id]

    def forget_guild(self, guild_id: int) -> None:
        """Drop a guild's commands, because the bot has left it."""
        self._scopes.pop(guild_id, None)

    def find(self, guild_id: int | None, path: str) -> tuple[Json, list[Json]]:
        """Return the command of a path such as `sandbox create`, and the subcommand options of the path.

        Raises `SimUnknownCommand` with the list of synced commands when the path is not synced there.
        """
        names = path.strip().lstrip("/").split()
        scopes = [guild_id, None] if guild_id is not None else [None]
        for scope in scopes:
            for command in self.in_scope(scope):
                if names and command["name"] == names[0] and command["type"] == CHAT_INPUT:
                    return command, _descend(command, names[1:], path)
        known = sorted({p for scope in scopes for c in self.in_scope(scope) for p in paths(c)})
        raise SimUnknownCommand(f"/{path} is not synced here; synced: {known or 'nothing'}")

    def _command(self, guild_id: int | None, body: Json, command_id: int | None) -> Json:
        kind = _kind(body)
        name = body.get("name")
        if not isinstance(name, str) or (kind == CHAT_INPUT and not NAME.match(name)):
            raise invalid_form("name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
        if kind == CHAT_INPUT:
            if name != name.lower():
                raise invalid_form("name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
            _check_description(body, "description")
            _check_options(body.get("options") or [], "options")
        permissions = body.get("default_member_permissions")
        command: Json = {
            "id": str(command_id or self._snowflakes.next()),
            "application_id": str(self._application_id),
            "version": str(self._snowflakes.next()),
            "default_member_permissions": None if permissions is None else str(permissions),
            "type": kind,
            "name": name,
            "name_localizations": body.get("name_localizations"),
            "description": body.get("description") or "",
            "description_localizations": body.get("description_localizations"),
            "dm_permission": body.get("dm_permission", True) is not False,
            "contexts": body.get("contexts"),
            "integration_types": body.get("integration_types") or [0],
            "nsfw": bool(body.get("nsfw")),
        }
        if guild_id is not None:
            command["guild_id"] = str(guild_id)
        if kind == CHAT_INPUT:
            command["options"] = _clean(body.get("options") or [])
        return command


def _kind(body: Json) -> int:
    kind = body.get("type") or CHAT_INPUT
    if not isinstance(kind, int) or kind not in KINDS:
        raise invalid_form("type", "BASE_TYPE_CHOICES", f"Value must be one of {sorted(KINDS)}")
    return kind


def paths(command: Json) -> Iterator[str]:
    """Yield the callable paths of a command: `sandbox create`, `sandbox list`, ..."""
    inner = [o for o in command.get("options") or () if o["type"] in (SUB_COMMAND, SUB_COMMAND_GROUP)]
    if not inner:
        yield command["name"]
    for option in inner:
        if option["type"] == SUB_COMMAND:
            yield f"{command['name']} {option['name']}"
        else:
            for path in paths(option):
                yield f"{command['name']} {path}"


def leaf(command: Json, steps: list[Json]) -> Json:
    """Return the object with the options: the last step, or the command itself."""
    return steps[-1] if steps else command


def _descend(command: Json, names: list[str], path: str) -> list[Json]:
    steps: list[Json] = []
    here = command
    for name in names:
        inner = (o for o in here.get("options") or () if o["type"] in (1, 2) and o["name"] == name)
        step = next(inner, None)
        if step is None:
            raise SimUnknownCommand(f"/{path}: no {name!r}; synced: {sorted(paths(command))}")
        steps.append(step)
        here = step
    if any(o["type"] in (SUB_COMMAND, SUB_COMMAND_GROUP) for o in here.get("options") or ()):
        raise SimUnknownCommand(f"/{path} is a group; synced: {sorted(paths(command))}")
    return steps


def _check_description(body: Json, path: str) -> None:
    text = body.get("description")
    if not isinstance(text, str) or not 1 <= len(text) <= 100:
        raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")


def _check_options(options: list[Json], path: str) -> None:
    if len(options) > OPTIONS_LIMIT:
        raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", "Must be 25 or fewer in length.")
    names: set[str] = set()
    optional_seen = False
    for number, option in enumerate(options):
        where = f"{path}.{number}"
        name = option.get("name")
        if not isinstance(name, str) or not NAME.match(name) or name != name.lower():
            raise invalid_form(f"{where}.name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
        if name in names:
            raise invalid_form(
                where, "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS", "Option name already exists"
            )
        names.add(name)
        _check_description(option, f"{where}.description")
        if option.get("required") and optional_seen:
            raise invalid_form(
                where,
                "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID",
                "Required options must be placed before non-required options",
            )
        optional_seen = optional_seen or (not option.get("required") and option.get("type", 0) > 2)
        if len(option.get("choices") or []) > OPTIONS_LIMIT:
            raise invalid_form(f"{where}.choices", "BASE_TYPE_BAD_LENGTH", "Must be 25 or fewer in length.")
        _check_options(option.get("options") or [], f"{where}.options")


def _clean(options: JsonValue) -> list[Json]:
    """Return the options without null members, as answers contain none."""
    cleaned: list[Json] = []
    for option in options:
        kept = {k: v for k, v in option.items() if v is not None}
        if "options" in kept:
            kept["options"] = _clean(kept["options"])
        cleaned.append(kept)
    return cleaned
