"""The errors of the simulator.

    SimError
    ├── SimNotConnected    no connected session would receive the event
    ├── SimUnknownCommand  the command or subcommand is not synced
    ├── SimBadOption       an option is missing, unknown or of the wrong type
    ├── SimForbidden       Discord's client would not offer this to the user
    └── SimTimeout         the bot did not answer in time

`ApiError` is different: REST handlers raise it, and it becomes the error body that the bot receives.
"""

from __future__ import annotations

from discord_sim.jsontypes import Json


class SimError(Exception):
    """Base of all errors for the caller of the simulator."""


class SimNotConnected(SimError):
    """No connected session would receive the event."""


class SimUnknownCommand(SimError):
    """The bot has not synced this command for this guild (nor globally)."""


class SimBadOption(SimError):
    """An option is missing, unknown, of the wrong type, or out of its range."""


class SimForbidden(SimError):
    """Discord's client would not offer this to the user."""


class SimTimeout(SimError):
    """The bot did not answer in time; the message says what happened until then."""


class ApiError(Exception):
    """An error answer of the REST API.

    `status` is the HTTP status, `code` Discord's JSON error code (0 for a general error), `message` its text.
    `errors` is the tree of fields that code 50035 needs.
    """

    def __init__(self, status: int, code: int, message: str, errors: Json | None = None) -> None:
        super().__init__(f"{status} ({code}) {message}")
        self.status = status
        self.code = code
        self.message = message
        self.errors = errors

    def body(self) -> Json:
        """Return the JSON body of the error answer."""
        body: Json = {"message": self.message, "code": self.code}
        if self.errors is not None:
            body["errors"] = self.errors
        return body


def invalid_form(path: str, code: str, message: str) -> ApiError:
    """Return the error with code 50035 for one field; `path` has dots, as in `embeds.0.title`."""
    tree: Json = {"_errors": [{"code": code, "message": message}]}
    for part in reversed(path.split(".")):
        tree = {part: tree}
    return ApiError(400, 50035, "Invalid Form Body", tree)


def unknown(what: str, code: int) -> ApiError:
    """Return the 404 for an entity that does not exist, as in `unknown("Channel", 10003)`."""
    return ApiError(404, code, f"Unknown {what}")
