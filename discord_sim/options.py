"""Turns the values of a test into the option data of an interaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discord_sim.errors import SimBadOption
from discord_sim.jsontypes import Json
from discord_sim.world import shapes
from discord_sim.world.entities import SimChannel, SimGuild, SimMember, SimRole, SimUser
from discord_sim.world.messages import SimFile
from discord_sim.world.world import World

STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER, ATTACHMENT = range(3, 12)
TYPE_NAMES = {
    STRING: "a string",
    INTEGER: "an integer",
    BOOLEAN: "a boolean",
    USER: "a user",
    CHANNEL: "a channel",
    ROLE: "a role",
    MENTIONABLE: "a user or role",
    NUMBER: "a number",
    ATTACHMENT: "a (filename, bytes) pair",
}


class Resolver:
    """Resolves one interaction's values and collects its `resolved` section."""

    def __init__(self, world: World, guild: SimGuild | None) -> None:
        self._world = world
        self._guild = guild
        self.resolved: Json = {}

    def options(
        self, declared: list[Json], values: Mapping[str, Any], *, focused: str | None = None
    ) -> list[Json]:
        """Return the option data.

        `declared` are the synced options. `values` are by option name, where `_` may replace `-`. `focused`
        is the option of an autocomplete: its value is sent as typed, and required options may be missing.

        Raises `SimBadOption` for a missing or unknown option, a wrong type, or a value out of range.
        """
        by_name = {option["name"]: option for option in declared}
        given: dict[str, Any] = {}
        for key, value in values.items():
            name = key if key in by_name else key.replace("_", "-")
            if name not in by_name:
                raise SimBadOption(f"no option {key!r}; there are {sorted(by_name)}")
            if value is not None:
                given[name] = value
        for name, option in by_name.items():
            if option.get("required") and name not in given and focused is None:
                raise SimBadOption(f"option {name!r} is required")
        return [self._option(by_name[name], value, focused=name == focused) for name, value in given.items()]

    def _option(self, option: Json, value: Any, *, focused: bool) -> Json:
        data: Json = {"name": option["name"], "type": option["type"]}
        if focused:
            if not option.get("autocomplete"):
                raise SimBadOption(f"option {option['name']!r} has no autocomplete")
            return {**data, "value": value, "focused": True}
        return {**data, "value": self._value(option, value)}

    def _value(self, option: Json, value: Any) -> Any:
        kind = option["type"]
        converted = self._convert(kind, value)
        if converted is None:
            wanted = TYPE_NAMES.get(kind, str(kind))
            raise SimBadOption(f"option {option['name']!r} takes {wanted}, not {value!r}")
        choices = option.get("choices")
        if choices:
            for choice in choices:
                if converted in (choice["value"], choice["name"]):
                    return choice["value"]
            raise SimBadOption(
                f"option {option['name']!r}: {value!r} is none of {[c['name'] for c in choices]}"
            )
        _check_range(option, converted)
        return converted

    def _convert(self, kind: int, value: Any) -> Any:
        if kind == STRING:
            return value if isinstance(value, str) else None
        if kind == BOOLEAN:
            return value if isinstance(value, bool) else None
        if kind == INTEGER:
            return value if isinstance(value, int) and not isinstance(value, bool) else None
        if kind == NUMBER:
            real = isinstance(value, (int, float)) and not isinstance(value, bool)
            return value if real else None
        if kind == ATTACHMENT:
            return self._attachment(value)
        return self.entity(kind, value)

    def entity(self, kind: int, value: Any) -> str | None:
        """Return the id of a user, channel or role, and add it to `resolved`; None for any other value."""
        if kind in (USER, MENTIONABLE):
            found = self._user(value)
            if found is not None:
                return found
        if kind in (ROLE, MENTIONABLE):
            return self._role(value)
        return self._channel(value) if kind == CHANNEL else None

    def _user(self, value: Any) -> str | None:
        user = value.user if isinstance(value, SimMember) else value
        if isinstance(user, int):
            user = self._world.users.get(user)
        if not isinstance(user, SimUser):
            return None
        key = str(user.id)
        self.resolved.setdefault("users", {})[key] = shapes.user(user)
        member = self._guild.members.get(user.id) if self._guild is not None else None
        if member is not None:
            self.resolved.setdefault("members", {})[key] = {
                **shapes.member(member, with_user=False),
                "permissions": str(member.permissions),
            }
        return key

    def _role(self, value: Any) -> str | None:
        role = value
        if isinstance(value, int) and self._guild is not None:
            role = self._guild.roles.get(value)
        if not isinstance(role, SimRole):
            return None
        self.resolved.setdefault("roles", {})[str(role.id)] = shapes.role(role)
        return str(role.id)

    def _channel(self, value: Any) -> str | None:
        channel = self._world.channels.get(value) if isinstance(value, int) else value
        if not isinstance(channel, SimChannel):
            return None
        shape = shapes.channel(channel)
        shape["permissions"] = str(0 if self._guild is None else self._guild.everyone.permissions)
        self.resolved.setdefault("channels", {})[str(channel.id)] = shape
        return str(channel.id)

    def _attachment(self, value: Any) -> str | None:
        if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], bytes)):
            return None
        name, content = value
        file = SimFile(self._world.snowflakes.next(), str(name), content, "application/octet-stream")
        self._world.uploads[file.id] = file
        url = f"{self._world.cdn_url}/attachments/0/{file.id}/{file.filename}"
        self.resolved.setdefault("attachments", {})[str(file.id)] = {
            "id": str(file.id),
            "filename": file.filename,
            "size": len(content),
            "url": url,
            "proxy_url": url,
            "content_type": file.content_type,
            "ephemeral": True,
        }
        return str(file.id)


def _check_range(option: Json, value: Any) -> None:
    size = len(value) if isinstance(value, str) else value
    low = option.get("min_length" if isinstance(value, str) else "min_value")
    high = option.get("max_length" if isinstance(value, str) else "max_value")
    if isinstance(value, bool):
        return
    if (low is not None and size < low) or (high is not None and size > high):
        raise SimBadOption(f"option {option['name']!r}: {value!r} is not within {low}..{high}")
