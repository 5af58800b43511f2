"""How a REST handler is declared, and what it gets and gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from discord_sim.errors import ApiError, unknown
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.world import SimChannel, SimGuild, SimMessage, SimUser
from discord_sim.world.messages import SimFile

if TYPE_CHECKING:
    from discord_sim.rest.server import RestServer


@dataclass
class RecordedRequest:
    """One REST request and its answer, for assertions and validation.

    Attributes:
        at: Seconds since the Unix epoch.
        method: HTTP method.
        path: Path without the ``/api/vN`` prefix.
        route: The template that matched, with Discord's OpenAPI parameter
            names; None for an unknown route.
        body: JSON body (of a multipart request: its ``payload_json``).
        files: File names of a multipart request.
        status: HTTP status of the answer; 0 until it is known.
        response: JSON body of the answer.
    """

    at: float
    method: str
    path: str
    route: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: JsonValue = None
    files: list[str] = field(default_factory=list)
    status: int = 0
    response: JsonValue = None


@dataclass
class Call:
    """A request on its way to a handler."""

    server: RestServer
    params: dict[str, str]
    query: dict[str, str]
    body: JsonValue
    files: list[SimFile]

    def json(self) -> Json:
        """The body as a JSON object; 400 when it is none."""
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise ApiError(400, 50109, "The request body contains invalid JSON.")
        return self.body

    def id(self, name: str) -> int:
        """A snowflake from the path."""
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
        """A boolean from the query."""
        return self.query.get(name, "").lower() in ("1", "true")

    def number(self, name: str, default: int, most: int) -> int:
        """A bounded integer from the query."""
        text = self.query.get(name, "")
        return min(int(text), most) if text.isdigit() else default

    def user(self) -> SimUser:
        """The user in the path; 404 with code 10013 when there is none."""
        user = self.server.world.users.get(self.id("user_id"))
        if user is None:
            raise unknown("User", 10013)
        return user

    def guild(self) -> SimGuild:
        """The guild in the path; 404 with code 10004 when the bot is not in it."""
        guild = self.server.world.guilds.get(self.id("guild_id"))
        if guild is None or not guild.has_bot:
            raise unknown("Guild", 10004)
        return guild

    def channel(self) -> SimChannel:
        """The channel in the path; 404 when unknown, 403 when the bot can't see it."""
        channel = self.server.world.channels.get(self.id("channel_id"))
        if channel is None:
            raise unknown("Channel", 10003)
        if channel.guild is not None and not channel.guild.has_bot:
            raise ApiError(403, 50001, "Missing Access")
        return channel

    def message(self) -> SimMessage:
        """The message in the path; ephemeral ones are not found by channel."""
        found = self.server.world.messages.get(self.channel().id, {}).get(self.id("message_id"))
        if found is None or found.deleted or found.ephemeral:
            raise unknown("Message", 10008)
        return found


@dataclass(frozen=True)
class Answer:
    """A JSON answer with a status of its own."""

    status: int
    body: JsonValue


NO_CONTENT = Answer(204, None)

Handler = Callable[[Call], Awaitable[JsonValue]]


@dataclass(frozen=True)
class Route:
    """A method and path template with its handler.

    ``auth`` is False where the path itself carries a token.
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
        """Declare a handler for ``METHOD template``."""

        def declare(handler: Handler) -> Handler:
            self.routes.append(Route(method, template, handler, auth))
            return handler

        return declare
