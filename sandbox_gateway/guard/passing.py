"""Production's calls: passed on as they come, with the real token in place of production's own.

Production is the owner's own bot, and does what it would do at Discord, in all its servers. So nothing here
waits for the sandboxes' share, for Redis or for PostgreSQL. Other than at Discord are only the gateway's
address, and the lists of commands, which do not lose what is the sandboxes' (`commands.production`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from aiohttp import web
from multidict import CIMultiDict

from sandbox_core.client_endpoint import PRODUCTION_WORD
from sandbox_gateway.upstream import Upstream, UpstreamAnswer, UpstreamAway

from . import paths
from .answers import Refusal, unknown_route
from .relaying import relay
from .rules import Matched, Rules

_OWN = f"/{PRODUCTION_WORD}/"
_TARGET = re.compile(r"/api(?:/v([0-9]{1,3}))?((?!/v[0-9])/[!-~]+)\Z")
_NEWEST = 10
_GATEWAY = frozenset({"/gateway", "/gateway/bot"})
_HOP_BY_HOP = frozenset(
    {
        *("connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_NOT_SENT = frozenset({"host", "content-length", "accept-encoding"})
"""Of a request: the connection to Discord is another one, and compresses by itself."""
_NOT_PASSED = frozenset({"content-length", "content-encoding"})
"""Of an answer, which is not compressed any more."""


class CommandLists(Protocol):
    """Has production's calls about commands leave what is the sandboxes'."""

    async def answer(self, request: web.Request, call: ProductionCall) -> web.StreamResponse | None:
        """Answer the call; None when it may pass as it is. Raises `Refusal` and `UpstreamAway`."""
        ...


class ProductionCall:
    """A call of production's, with what is known of it."""

    def __init__(self, request: web.Request, rules: Rules) -> None:
        """Read the target. Raises `Refusal` for what can't be one of Discord's API."""
        raw = request.raw_path
        if is_own_path(raw):
            raw = raw[len(_OWN) - 1 :]
        target = _TARGET.match(raw)
        if target is None:
            raise unknown_route()
        self.version = int(target[1] or _NEWEST)
        self.path = target[2]
        """With the query."""
        self.matched = _match(rules, request.method, raw)
        """What the table says of it; Discord may have routes that it does not."""
        self.headers = CIMultiDict(_end_to_end(request.headers, but=_NOT_SENT))

    @property
    def asks_for_the_gateway(self) -> bool:
        """Whether it asks for an address that is ours."""
        return self.path.partition("?")[0] in _GATEWAY

    @property
    def has_own_token(self) -> bool:
        """Whether the path has a token, so that libraries send no Authorization header."""
        return self.matched is not None and self.matched.rule.has_own_token

    @property
    def own_token(self) -> str:
        """The token by which Discord knows a call without the bot's: in its path, or somebody's own."""
        values = {} if self.matched is None else self.matched.values
        in_path = values.get("interaction_token") or values.get("webhook_token")
        return in_path or str(self.headers.get("Authorization", ""))


class Passing:
    """Passes production's calls on."""

    def __init__(self, upstream: Upstream, commands: CommandLists | None) -> None:
        self._upstream = upstream
        self._commands = commands

    async def answer(
        self, request: web.Request, call: ProductionCall, *, authorized: bool
    ) -> web.StreamResponse:
        """Answer with what Discord answers; `authorized` puts the real token into the call.

        Raises `Refusal` when Discord does not answer.
        """
        if authorized:
            call.headers.popall("Authorization", None)
        try:
            if authorized and self._commands is not None:
                answered = await self._commands.answer(request, call)
                if answered is not None:
                    return answered
            async with self._upstream.pass_on(
                request.method,
                call.path,
                headers=call.headers,
                body=_body(request, call.headers),
                version=call.version,
                authorized=authorized,
            ) as answer:
                return await relay(request, answer, _end_to_end(answer.headers, but=_NOT_PASSED))
        except UpstreamAway:
            # A status with which libraries try again.
            raise Refusal(502, "502: Bad Gateway", reason="discord_away") from None


def is_own_path(raw_path: str) -> bool:
    """Return whether the path is one that only production's variables name."""
    return raw_path.startswith(_OWN)


def answered(answer: UpstreamAnswer, body: bytes | None = None) -> web.Response:
    """Return Discord's answer, or one with another body."""
    return web.Response(
        status=answer.status,
        body=answer.body if body is None else body,
        headers=_end_to_end(answer.headers, but=_NOT_PASSED),
    )


def _match(rules: Rules, method: str, raw: str) -> Matched | None:
    try:
        return rules.match(method, paths.split(raw))
    except Refusal:
        return None


def _end_to_end(headers: Mapping[str, str], *, but: frozenset[str]) -> CIMultiDict[str]:
    """Return the headers that are not about the one connection that they came on."""
    # Such as `Connection: close, X-Hop`.
    named = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    gone = _HOP_BY_HOP | but | named
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in gone)


def _body(request: web.Request, headers: CIMultiDict[str]) -> bytes | AsyncIterator[bytes] | None:
    if not request.body_exists:
        return None
    if request.content_length is not None:
        headers["Content-Length"] = str(request.content_length)
    return request.content.iter_any()
