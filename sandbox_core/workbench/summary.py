"""What one line says of an event: who did it, where, and its first words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .seen import SeenEvent

_WORDS = 60
_TEXTS = ("content", "name", "topic", "title")
_INTERACTIONS = {1: "ping", 2: "command", 3: "component", 4: "suggestions", 5: "form"}


@dataclass
class Names:
    """Names of servers and channels, as far as they are known. Events tell some themselves."""

    guilds: dict[str, str] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)

    def learn(self, event: SeenEvent) -> None:
        """Note the names that this event tells."""
        data = event.data
        if event.type in {"GUILD_CREATE", "GUILD_UPDATE"}:
            _note(self.guilds, data)
            for kind in ("channels", "threads"):
                self.learn_channels(data.get(kind))
        elif event.type.startswith(("CHANNEL_", "THREAD_")):
            self.learn_channels([data, *_list(data.get("threads"))])
        elif event.type == "INTERACTION_CREATE":
            self.learn_channels([data.get("channel")])

    def learn_channels(self, channels: Any) -> None:
        """Note the names of Discord's channel objects."""
        for each in _list(channels):
            if isinstance(each, Mapping):
                _note(self.channels, each)

    def guild(self, guild_id: str | None) -> str:
        """The server's name, or its id; "" for none."""
        return "" if guild_id is None else self.guilds.get(guild_id, guild_id)

    def channel(self, channel_id: str | None) -> str:
        """`#name`, or the id; "" for none."""
        if channel_id is None:
            return ""
        name = self.channels.get(channel_id)
        return channel_id if name is None else f"#{name}"


def who(event: SeenEvent) -> str:
    """The person's name, or id; "" where Discord names nobody."""
    user = event.user
    name = user.get("global_name") or user.get("username") or user.get("id") or ""
    return str(name)


def words(event: SeenEvent) -> str:
    """The first words of what it says, on one line; "" when it says nothing in words."""
    data = event.data
    if event.type == "INTERACTION_CREATE":
        return _shortened(_of_interaction(data))
    if event.type.startswith("MESSAGE_REACTION_"):
        emoji = data.get("emoji")
        return str(emoji.get("name") or "") if isinstance(emoji, Mapping) else ""
    if event.type.startswith("MESSAGE_POLL_VOTE_"):
        return f"answer {data.get('answer_id')}"
    found = next((data[key] for key in _TEXTS if isinstance(data.get(key), str) and data[key]), "")
    if not found and isinstance(data.get("role"), Mapping):
        found = str(data["role"].get("name") or "")
    if not found and event.type.startswith("MESSAGE_"):
        found = _attached(data)
    return _shortened(found)


def _of_interaction(data: Mapping[str, Any]) -> str:
    number = data.get("type")
    kind = _INTERACTIONS.get(number, "interaction") if isinstance(number, int) else "interaction"
    details = data.get("data")
    details = details if isinstance(details, Mapping) else {}
    name = details.get("name") or details.get("custom_id") or ""
    return f"/{name}" if kind == "command" and details.get("type", 1) == 1 else f"{kind} {name}".rstrip()


def _attached(data: Mapping[str, Any]) -> str:
    parts = []
    for key, one in (("attachments", "file"), ("embeds", "embed"), ("sticker_items", "sticker")):
        if count := len(_list(data.get(key))):
            parts.append(f"{count} {one}{'' if count == 1 else 's'}")
    return f"({', '.join(parts)})" if parts else ""


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WORDS else f"{line[: _WORDS - 1]}…"


def _note(names: dict[str, str], thing: Mapping[str, Any]) -> None:
    if isinstance(thing.get("id"), str) and isinstance(thing.get("name"), str):
        names[thing["id"]] = thing["name"]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
