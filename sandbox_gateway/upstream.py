"""Discord's REST API with the real token: the only place that has it, besides the settings."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import structlog
from multidict import CIMultiDict, CIMultiDictProxy
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from yarl import URL

from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.settings import Settings

from .metrics import LastMinute, UpstreamMetrics
from .share import Share, ShareUsed

_log = structlog.get_logger("sandbox.client_gateway")

DISCORD = "https://discord.com/api"
_USER_AGENT = "DiscordBot (https://github.com/discord-server-sandboxes, 1) sandbox-gateway"
_VERSION = re.compile(r"/v[0-9]+\Z")
_TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=5, sock_read=30)
_INVALID = frozenset({401, 403, 429})
_PAGE_STOPS = 60.0
"""How long a page of Cloudflare's stops everything that does not say it itself, in seconds."""
_LONGEST_STOP = 24 * 3600.0
_COUNTED_WITHIN = 0.5
_MOST_OPEN, _OPEN_AGAIN_AFTER = 50, 1.0
"""Calls of one sandbox at the same time: an upload, or an answer that its bot does not read, may last."""


class UpstreamAway(Exception):
    """Discord does not answer; the text says how, without a secret."""


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # Its text may have the address with a token in the path.
        raise UpstreamAway(type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """Discord's answer, as it came."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def retry_after(self) -> float:
        """The seconds after which a call that came too soon may come again."""
        said = self.json()
        told = said.get("retry_after") if isinstance(said, dict) else None
        return _number(told) or _number(self.headers.get("Retry-After")) or 1.0

    def json(self) -> Any:
        """Return the body's value; None when it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(slots=True)
class OpenAnswer:
    """Discord's answer whose body is still to be read; `stopped` is for how long it stops the share."""

    status: int
    headers: CIMultiDictProxy[str]
    _response: aiohttp.ClientResponse
    _read: bytes | None = None
    stopped: float = field(default=0.0)

    @property
    def length(self) -> int | None:
        """The number of bytes of the body; None when it is not told."""
        if self._read is not None:
            return len(self._read)
        # What aiohttp has to decompress becomes longer.
        return None if "Content-Encoding" in self.headers else self._response.content_length

    async def body(self) -> bytes:
        """Read the whole body."""
        if self._read is None:
            with _translating():
                self._read = await self._response.read()
        return self._read

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read the body in pieces."""
        if self._read is not None:
            yield self._read
            return
        while True:
            with _translating():
                chunk = await self._response.content.readany()
            if not chunk:
                return
            yield chunk


class Upstream:
    """Asks Discord for a sandbox, within its share."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base: str,
        token: SecretStr,
        share: Share,
        metrics: UpstreamMetrics | None = None,
        *,
        for_production: aiohttp.ClientSession | None = None,
    ) -> None:
        """`base` is the address of the API, with or without its version.

        `for_production` is another client for what production sends: it waits for no sandbox's upload.
        """
        self._http = http
        self._for_production = for_production or http
        self._base = _VERSION.sub("", base.rstrip("/"))
        self._token = token
        self.share = share
        self._metrics = metrics or UpstreamMetrics(CollectorRegistry())
        self._open: Counter[UUID] = Counter()
        self._asked = asked = LastMinute()
        most = share.limits.all_sandboxes * 60
        self._metrics.share_used.set_function(lambda: asked.count / most)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        sandbox_id: UUID,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        version: int = 10,
        authorized: bool = True,
        of_all: bool = True,
        last_look: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[OpenAnswer]:
        """Send a request for this sandbox; path and query go out as they are.

        `last_look` is called when its turn has come, and may raise. It is the last step before the sending.
        Raises `ShareUsed`, `UpstreamAway`, and `DependencyUnavailable` when Redis is away.
        """
        with self._one_more(sandbox_id):
            await self.share.enter(sandbox_id, of_all=of_all)
            if of_all:
                self._asked.note()
            last_look()
            sent = CIMultiDict(headers or {})
            sent["User-Agent"] = _USER_AGENT
            if authorized:
                sent["Authorization"] = f"Bot {self._token.get_secret_value()}"
            url = URL(f"{self._base}/v{version}{path}{'?' if query else ''}{query}", encoded=True)
            try:
                sending = await self._sent(self._http, method, url, headers=sent, body=body)
            except UpstreamAway:
                self._metrics.answered(None, authorized=authorized)
                raise
            async with sending as response:
                self._metrics.answered(response.status, authorized=authorized)
                answer = OpenAnswer(response.status, response.headers, response)
                if response.status in _INVALID:
                    await self._judge(answer, sandbox_id)
                yield answer

    @contextmanager
    def _one_more(self, sandbox_id: UUID) -> Iterator[None]:
        if self._open[sandbox_id] >= _MOST_OPEN:
            raise ShareUsed(_OPEN_AGAIN_AFTER, "too_many_at_once")
        self._open[sandbox_id] += 1
        try:
            yield
        finally:
            self._open[sandbox_id] -= 1
            if not self._open[sandbox_id]:
                del self._open[sandbox_id]

    @asynccontextmanager
    async def pass_on(
        self,
        method: str,
        path: str,
        *,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
        version: int,
        authorized: bool,
    ) -> AsyncIterator[OpenAnswer]:
        """Send a request of production's as it is. It waits for no share, and for no server of ours.

        Raises `UpstreamAway`.
        """
        if authorized:
            headers["Authorization"] = f"Bot {self._token.get_secret_value()}"
        url = URL(f"{self._base}/v{version}{path}", encoded=True)
        http = self._for_production
        async with await self._sent(http, method, url, headers=headers, body=body) as response:
            answer = OpenAnswer(response.status, response.headers, response)
            if response.status in _INVALID:
                await answer.body()
                # The sandboxes give way: it is the same bot, and the same address. Production does not wait.
                with suppress(DependencyUnavailable, TimeoutError):
                    async with asyncio.timeout(_COUNTED_WITHIN):
                        await self._judge(answer, PRODUCTION)
            yield answer

    async def _sent(
        self,
        http: aiohttp.ClientSession,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> aiohttp.ClientResponse:
        # Without a body of its own aiohttp would name a content type.
        skipped = None if body is not None else ("Content-Type",)
        with _translating():
            return await http.request(
                method,
                url,
                headers=headers,
                data=body,
                skip_auto_headers=skipped,
                allow_redirects=False,
                timeout=_TIMEOUT,
            )

    async def request(
        self,
        method: str,
        path: str,
        *,
        sandbox_id: UUID,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        version: int = 10,
        authorized: bool = True,
        of_all: bool = True,
    ) -> UpstreamAnswer:
        """Do the same as `open`, and read the whole answer. One that stops the share is `ShareUsed`, too."""
        async with self.open(
            method,
            path,
            sandbox_id=sandbox_id,
            query=query,
            headers=headers,
            body=body,
            version=version,
            authorized=authorized,
            of_all=of_all,
        ) as answer:
            if answer.stopped:
                raise ShareUsed(answer.stopped, "stopped")
            return UpstreamAnswer(answer.status, answer.headers, await answer.body())

    async def _judge(self, answer: OpenAnswer, sandbox_id: UUID) -> None:
        """Count an answer of those that get an address banned, and stop everything where it says so."""
        await self.share.invalid(sandbox_id)
        seconds, reason = _stop(answer.status, answer.headers, await answer.body())
        if seconds:
            answer.stopped = seconds
            self._metrics.stops.labels(reason).inc()
            _log.warning("discord_stops_sandboxes", status=answer.status, seconds=seconds, reason=reason)
            await self.share.stop(seconds)


def _stop(status: int, headers: Mapping[str, str], body: bytes) -> tuple[float, str]:
    """Return for how long an answer stops all sandboxes, and why; 0 when it is about one route.

    What is no JSON is Cloudflare's, which blocks the address.
    """
    is_json = headers.get("Content-Type", "").startswith("application/json")
    told = _number(headers.get("Retry-After"))
    if not is_json and status != 401:
        return min(told or _PAGE_STOPS, _LONGEST_STOP), "address_blocked"
    if status != 429:
        return 0.0, ""
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    said = said if isinstance(said, dict) else {}
    if headers.get("X-RateLimit-Global", "").lower() == "true" or said.get("global") is True:
        return min(_number(said.get("retry_after")) or told or 1.0, _LONGEST_STOP), "global_limit"
    return 0.0, ""


def _number(value: object) -> float:
    try:
        return max(0.0, float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0


@asynccontextmanager
async def open_upstream(
    settings: Settings, share: Share, metrics: UpstreamMetrics
) -> AsyncIterator[Upstream]:
    """Open the client with the settings' token. Raises `ValueError` without one."""
    if settings.discord_token is None:
        raise ValueError("DISCORD_TOKEN is not set")
    base, token = settings.discord_api_url or DISCORD, settings.discord_token
    async with _client() as http, _client() as for_production:
        yield Upstream(http, base, token, share, metrics, for_production=for_production)


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # No cookie of one sandbox's answer comes with another's request.
        cookie_jar=aiohttp.DummyCookieJar(),
        # Each sandbox has its own limit: with one for all, a few uploads that last would stop everybody.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        requote_redirect_url=False,
    )
