"""Declares REST handlers, with the types of their arguments and results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from discord_sim.errors import ApiError, unknown
from discord_sim.interactions import InteractionDesk
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.world import SimChannel, SimGuild, SimMessage, SimUser, World
from discord_sim.world.messages import SimFile


@dataclass
class RecordedRequest:
    """One REST request and its answer, for assertions and validation."""

    at: float
    """Seconds since the Unix epoch."""
    method: str
    path: str
    """The path without the prefix `/api/vN`."""
    route: str | None = None
    """The matching template, with the parameter names of Discord's OpenAPI; None for an unknown route."""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: JsonValue = None
    """The JSON body; of a multipart request its `payload_json`."""
    files: list[str] = field(default_factory=list)
    """The file names of a multipart request."""
    status: int = 0
    """The HTTP status of the answer; 0 until it is known."""
    response: JsonValue = None
    """The JSON body of the answer."""


@dataclass(frozen=True)
class Backend:
    """What the handlers work on."""

    world: World
    desk: InteractionDesk
    gateway_info: Callable[[], Json]
    """Returns the answer of `GET /gateway/bot`."""


@dataclass
class Call:
    """A request, as a handler gets it."""

    backend: Backend
    params: dict[str, str]
    query: dict[str, str]
    body: JsonValue
    files: list[SimFile]

    def json(self) -> Json:
        """Return the body as a JSON object. Raises `ApiError` 400 when it is none."""
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise ApiError(400, 50109, "The request body contains invalid JSON.")
        return self.body

    def id(self, name: str) -> int:
        """Return a snowflake from the path."""
        text = self.params[name]
        if not text.isdigit():
            raise ApiError(
                400,
                50035,
                "Invalid Form Body",
                {
                    name: {
                        "_errors": [
                            {
                                "code": "NUMBER_TYPE_COERCE",
                                "message": f'Value "{text}" is not snowflake.',
                            }
                        ]
                    }
                },
            )
        return int(text)

    def flag(self, name: str) -> bool:
        """Return a boolean from the query."""
        return self.query.get(name, "").lower() in ("1", "true")

    def number(self, name: str, default: int, most: int) -> int:
        """Return an integer from the query, at most `most`."""
        text = self.query.get(name, "")
        return min(int(text), most) if text.isdigit() else default

    def user(self) -> SimUser:
        """Return the user in the path. Raises `ApiError` 404 with code 10013."""
        user = self.backend.world.users.get(self.id("user_id"))
        if user is None:
            raise unknown("User", 10013)
        return user

    def guild(self) -> SimGuild:
        """Return the guild in the path. Raises `ApiError` 404 with code 10004 when the bot is not in it."""
        guild = self.backend.world.guilds.get(self.id("guild_id"))
        if guild is None or not guild.has_bot:
            raise unknown("Guild", 10004)
        return guild

    def channel(self) -> SimChannel:
        """Return the channel in the path. Raises `ApiError` 404, or 403 when the bot can't see it."""
        channel = self.backend.world.channels.get(self.id("channel_id"))
        if channel is None:
            raise unknown("Channel", 10003)
        if channel.guild is not None and not channel.guild.has_bot:
            raise ApiError(403, 50001, "Missing Access")
        return channel

    def message(self) -> SimMessage:
        """Return the message in the path. Ephemeral messages raise `ApiError` 404, too."""
        found = self.backend.world.messages.get(self.channel().id, {}).get(self.id("message_id"))
        if found is None or found.deleted or found.ephemeral:
            raise unknown("Message", 10008)
        return found


@dataclass(frozen=True)
class Answer:
    """A JSON answer with another status than 200."""

    status: int
    body: JsonValue


NO_CONTENT = Answer(204, None)

Handler = Callable[[Call], Awaitable[JsonValue]]


@dataclass(frozen=True)
class Route:
    """A method and path template with its handler.

    `auth` is False when the path contains a token.
    """

    method: str
    template: str
    handler: Handler
    auth: bool = True


class RouteTable:
    """Routes of one area; its methods are decorators."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def add(self, method: str, template: str, *, auth: bool = True) -> Callable[[Handler], Handler]:
        """Declare a handler for `METHOD template`."""

        def declare(handler: Handler) -> Handler:
            self.routes.append(Route(method, template, handler, auth))
            return handler

        return declare
