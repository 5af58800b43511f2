"""Messages, their JSON, and the text that a person reads in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from discord_sim.jsontypes import Json, JsonValue
from discord_sim.snowflake import created_at, isoformat
from discord_sim.world import shapes
from discord_sim.world.entities import SimChannel, SimUser

EPHEMERAL = 1 << 6
LOADING = 1 << 7
COMPONENTS_V2 = 1 << 15

DEFAULT_MESSAGE = 0
REPLY = 19
CHAT_INPUT_COMMAND = 20


@dataclass(frozen=True)
class SimFile:
    """A file attached to a message."""

    id: int
    filename: str
    content: bytes = field(repr=False)
    content_type: str
    description: str | None = None

    @property
    def text(self) -> str:
        """The content as UTF-8 text."""
        return self.content.decode("utf-8")


@dataclass(eq=False)
class SimMessage:
    """A message in its present form; edits change it in place."""

    id: int
    channel: SimChannel
    author: SimUser
    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    files: list[SimFile] = field(default_factory=list)
    flags: int = 0
    type: int = DEFAULT_MESSAGE
    tts: bool = False
    nonce: str | int | None = None
    reference: Json | None = None
    mentions: list[SimUser] = field(default_factory=list)
    interaction_metadata: Json | None = None
    application_id: int | None = None
    edited_at: float | None = None
    edits: int = 0
    deleted: bool = False
    cdn_url: str = ""

    @property
    def ephemeral(self) -> bool:
        """Whether only the person who caused it sees it."""
        return bool(self.flags & EPHEMERAL)

    @property
    def loading(self) -> bool:
        """Whether it is a deferred answer without content yet."""
        return bool(self.flags & LOADING)

    @property
    def text(self) -> str:
        """All visible text, one piece in a line: content, embeds, text components."""
        return "\n".join(self.pieces())

    def pieces(self) -> Iterator[str]:
        """Yield the pieces of visible text in reading order."""
        if self.content:
            yield self.content
        for embed in self.embeds:
            yield from _embed_text(embed)
        for component in walk(self.components):
            if component.get("type") == 10:
                yield str(component.get("content", ""))

    def buttons(self) -> list[Json]:
        """The buttons in reading order."""
        return [c for c in walk(self.components) if c.get("type") == 2]

    def rest(self) -> Json:
        """Return the message as in a REST answer."""
        shape: Json = {
            "type": self.type,
            "content": self.content,
            "mentions": [shapes.user(u) for u in self.mentions],
            "mention_roles": [],
            "attachments": [self._attachment(f) for f in self.files],
            "embeds": self.embeds,
            "timestamp": isoformat(created_at(self.id)),
            "edited_timestamp": None if self.edited_at is None else isoformat(self.edited_at),
            "flags": self.flags,
            "components": self.components,
            "id": str(self.id),
            "channel_id": str(self.channel.id),
            "author": shapes.user(self.author),
            "pinned": False,
            "mention_everyone": False,
            "tts": self.tts,
        }
        if self.nonce is not None:
            shape["nonce"] = self.nonce
        if self.reference is not None:
            shape["message_reference"] = self.reference
        if self.application_id is not None:
            shape["application_id"] = str(self.application_id)
            shape["webhook_id"] = str(self.application_id)
        if self.interaction_metadata is not None:
            shape["interaction_metadata"] = self.interaction_metadata
        return shape

    def event(self) -> Json:
        """Return the `d` of MESSAGE_CREATE and MESSAGE_UPDATE.

        A guild's message has `guild_id` and the author's `member`. A direct message has neither, nor has an
        ephemeral message, also in a guild's channel.
        """
        shape = {**self.rest(), "channel_type": self.channel.type}
        guild = self.channel.guild
        if guild is None or self.ephemeral:
            return shape
        shape["guild_id"] = str(guild.id)
        author = guild.members.get(self.author.id)
        if author is not None:
            shape["member"] = shapes.member(author, with_user=False)
        return shape

    @property
    def event_guild_id(self) -> int | None:
        """The guild whose shard receives this message's events."""
        guild = self.channel.guild
        return None if guild is None or self.ephemeral else guild.id

    def _attachment(self, file: SimFile) -> Json:
        url = f"{self.cdn_url}/attachments/{self.channel.id}/{file.id}/{file.filename}"
        shape: Json = {
            "id": str(file.id),
            "filename": file.filename,
            "size": len(file.content),
            "url": url,
            "proxy_url": url,
            "content_type": file.content_type,
        }
        if file.description is not None:
            shape["description"] = file.description
        if self.ephemeral:
            shape["ephemeral"] = True
        return shape


def walk(components: JsonValue) -> Iterator[Json]:
    """Yield every component of a tree, parents first."""
    for component in components or ():
        yield component
        yield from walk(component.get("components"))
        for inner in ("accessory", "component"):
            if isinstance(component.get(inner), dict):
                yield from walk([component[inner]])


def _embed_text(embed: Json) -> Iterator[str]:
    author = embed.get("author") or {}
    footer = embed.get("footer") or {}
    for piece in (author.get("name"), embed.get("title"), embed.get("description")):
        if piece:
            yield str(piece)
    for entry in embed.get("fields") or ():
        yield f"{entry['name']}: {entry['value']}"
    if footer.get("text"):
        yield str(footer["text"])
