"""Finds the guilds and channels that a query or a body names.

By the names of the fields, wherever they stand: a field that Discord adds tomorrow is found as well. A value
that is no id in its only spelling is refused, as another reader might take it for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .answers import invalid_body
from .paths import is_snowflake

Json = dict[str, "JsonValue"]
JsonValue = None | bool | int | float | str | list["JsonValue"] | Json

_GUILDS = re.compile(r"(?:\w+_)?guild_ids?\Z")
_CHANNELS = re.compile(r"(?:(?:\w+_)?channel_ids?|parent_id|thread_ids?|exempt_channels)\Z")
_MOST = 500
"""The most ids in one request; an onboarding may have many channels."""
_QUERY_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
# The names in queries under which Discord's API description has ids, or any text.
QUERY_IDS = frozenset(
    [
        "after",
        "around",
        "author_id",
        "before",
        "channel_id",
        "content",
        "guild_id",
        "guild_scheduled_event_exception_ids",
        "guild_scheduled_event_id",
        "include_roles",
        "max_id",
        "mentions",
        "mentions_role_id",
        "min_id",
        "name",
        "query",
        "replied_to_message_id",
        "replied_to_user_id",
        "sku_ids",
        "tag",
        "target_channel_id",
        "target_id",
        "target_message_id",
        "thread_id",
        "user_id",
    ]
)
_LIKE_AN_ID = re.compile(r"[0-9]{15,}")
_SELECTED = "channel"
"""The `type` of a value that stands for a channel, as the chosen one of a menu does."""


@dataclass(slots=True)
class Named:
    """The ids of guilds and of channels that something names."""

    foreign_form: bool = False
    """It is of another service's form, whose fields may have Discord's names, and other values."""
    guilds: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)

    def add(self, name: str, value: JsonValue) -> None:
        """Add what a field of this name holds, if it names guilds or channels."""
        if _GUILDS.match(name):
            self.guilds |= self._ids(name, value)
        elif _CHANNELS.match(name):
            self.channels |= self._ids(name, value)
        else:
            return
        if len(self.guilds) + len(self.channels) > _MOST:
            raise invalid_body(f"it names more than {_MOST} servers and channels")

    def _ids(self, name: str, value: JsonValue) -> set[str]:
        if value is None:
            return set()
        values = value if isinstance(value, list) else [value]
        if self.foreign_form:
            return {str(each) for each in values if is_snowflake(str(each))}
        return {_id(name, each) for each in values}


def named_in(body: JsonValue, *, rows_are_channels: bool = False, foreign_form: bool = False) -> Named:
    """Return what a body names, at any depth; with `rows_are_channels` it is a list of channels."""
    found = Named(foreign_form)
    if rows_are_channels and isinstance(body, list):
        for row in body:
            if not isinstance(row, dict):
                raise invalid_body("each row has to be an object")
            found.add("channel_id", row.get("id"))
    waiting: list[JsonValue] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            _look_at(value, found)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def _look_at(value: Json, found: Named) -> None:
    for name, held in value.items():
        found.add(name, held)
    if value.get("type") == _SELECTED and "id" in value:
        found.add("channel_id", value["id"])


def named_in_query(pairs: Iterable[tuple[str, str]]) -> Named:
    """Return what a query names.

    Raises `Refusal` for a name that could be read in two ways, and for an id under a name that Discord does
    not describe: nobody knows of what it is one.
    """
    found = Named()
    for name, value in pairs:
        if not _QUERY_NAME.match(name):
            raise invalid_body("a name in the query can't be used", "query")
        if (
            _LIKE_AN_ID.search(value)
            and name not in QUERY_IDS
            and not _GUILDS.match(name)
            and not _CHANNELS.match(name)
        ):
            raise invalid_body(f"`{name}` is no field of a query", "query")
        found.add(name, value)
    return found


def _id(name: str, value: JsonValue) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not is_snowflake(text):
        raise invalid_body(f"`{name}` is no id")
    return text


def required(body: JsonValue, name: str) -> str:
    """Return the id in a field that has to be there. Raises `Refusal` when it is not."""
    value = body.get(name) if isinstance(body, Mapping) else None
    if value is None:
        raise invalid_body(f"`{name}` is missing")
    return _id(name, value)
