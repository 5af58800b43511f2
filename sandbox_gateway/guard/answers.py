"""What a client gets that is not let through, in Discord's own form."""

from __future__ import annotations

import json
import math

from aiohttp import web

JSON_TYPE = "application/json"
"""Exactly as Discord sends it: with a charset discord.py would hand out a string."""
_VIA = "1.1 sandbox-gateway"
"""Without it discord.py takes a 429 for Cloudflare's, and raises at once."""


class Refusal(Exception):
    """A call that does not reach Discord, or whose answer is kept back.

    `message` and `code` are what the client gets; `reason` is a word for log and metrics.
    """

    def __init__(
        self, status: int, message: str, code: int = 0, *, reason: str, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.code = code
        self.reason = reason
        self.retry_after = retry_after

    def response(self) -> web.Response:
        """Return the answer for the client."""
        if self.retry_after is None:
            return json_response(self.status, {"message": self.message, "code": self.code})
        # Upwards: a client that waits as long as it is told is let through.
        seconds = math.ceil(self.retry_after * 1000) / 1000
        body = {"message": self.message, "retry_after": seconds, "global": True, "code": self.code}
        response = json_response(self.status, body)
        response.headers["Retry-After"] = str(math.ceil(seconds))
        response.headers["X-RateLimit-Global"] = "true"
        response.headers["X-RateLimit-Scope"] = "global"
        response.headers["Via"] = _VIA
        return response


def json_response(status: int, body: object) -> web.Response:
    """Return an answer with Discord's content type."""
    return web.Response(
        status=status,
        body=json.dumps(body, separators=(",", ":")).encode(),
        headers={"Content-Type": JSON_TYPE},
    )


def unauthorized(reason: str = "token") -> Refusal:
    """Return the refusal of a token that is no running sandbox's."""
    return Refusal(401, "401: Unauthorized", reason=reason)


def unknown_route() -> Refusal:
    """Return the refusal of a path that no rule has."""
    return Refusal(404, "404: Not Found", reason="unknown_route")


def missing_access(reason: str = "foreign_place") -> Refusal:
    """Return the refusal of a place outside of the sandbox.

    It is the same for a place that does not exist: a sandbox can't find out which others there are.
    """
    return Refusal(403, "Missing Access", 50001, reason=reason)


def missing_permissions(why: str, reason: str) -> Refusal:
    """Return the refusal of what no sandbox may do, or not on its level; `why` says which."""
    return Refusal(403, f"Missing Permissions: not in a sandbox, {why}", 50013, reason=reason)


def unknown_webhook(reason: str = "token_not_seen") -> Refusal:
    """Return the refusal of a webhook or an interaction's token that this sandbox did not get."""
    return Refusal(404, "Unknown Webhook", 10015, reason=reason)


def unknown_interaction(reason: str = "token_not_seen") -> Refusal:
    """Return the refusal of an interaction that this sandbox did not get."""
    return Refusal(404, "Unknown interaction", 10062, reason=reason)


def invalid_body(why: str, reason: str = "body") -> Refusal:
    """Return the refusal of a body, or a query, that can't be read in one way only."""
    return Refusal(400, f"The request body can't be used: {why}", 50109, reason=reason)


def limited(retry_after: float, reason: str) -> Refusal:
    """Return the refusal of a call that comes too soon."""
    return Refusal(429, "You are being rate limited.", reason=reason, retry_after=retry_after)


def unavailable(reason: str) -> Refusal:
    """Return the refusal while something is away that would have to be known."""
    return Refusal(503, "503: Service Unavailable", reason=reason)
