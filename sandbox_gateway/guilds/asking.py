"""Asks Discord's REST, once for all who want to know the same.

An answer counts for whoever asked before it was requested, and for nobody else: a session hears of what
changes after its beginning, so an older answer would hide a change from it for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from sandbox_core.errors import DependencyUnavailable

_FORBIDDEN, _NOT_FOUND, _OK = 403, 404, 200


class Answer(Protocol):
    """Discord's answer."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class Rest(Protocol):
    """Discord's REST with the bot's token."""

    async def request(self, method: str, path: str, *, sandbox_id: UUID, query: str = "") -> Answer:
        """Send a request on behalf of a sandbox; `path` begins behind the version.

        Waits for the sandbox's turn. Raises `DependencyUnavailable`.
        """
        ...


class Asking:
    """Sends GET requests, and shares their answers."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._planned: dict[str, asyncio.Task[Any]] = {}

    async def get(self, path: str, sandbox_id: UUID, **query: str) -> Any:
        """Return the JSON at `path`, requested after this call; None where the bot may not look.

        Raises `DependencyUnavailable`.
        """
        written = urlencode(query)
        key = f"{sandbox_id} {path}?{written}"
        # One that runs has begun before: the next one is shared by all who come meanwhile.
        task = self._planned.get(key)
        if task is None:
            task = asyncio.create_task(self._after(key, path, sandbox_id, written), name="discord-question")
            task.add_done_callback(_looked_at)
            self._planned[key] = task
        return await asyncio.shield(task)

    async def _after(self, key: str, path: str, sandbox_id: UUID, query: str) -> Any:
        running = self._running.get(key)
        if running is not None:
            await asyncio.wait({running})
        task = self._planned.pop(key)
        self._running[key] = task
        try:
            return await self._ask(path, sandbox_id, query)
        finally:
            if self._running.get(key) is task:
                del self._running[key]

    async def _ask(self, path: str, sandbox_id: UUID, query: str) -> Any:
        answer = await self._rest.request("GET", path, sandbox_id=sandbox_id, query=query)
        if answer.status in {_FORBIDDEN, _NOT_FOUND}:
            return None
        if answer.status != _OK:
            raise DependencyUnavailable("Discord", f"it answered with status {answer.status}")
        try:
            return msgspec.json.decode(answer.body)
        except msgspec.DecodeError:
            raise DependencyUnavailable("Discord", "its JSON can't be read") from None


def _looked_at(done: asyncio.Task[Any]) -> None:
    """Whoever waited has its failure; when nobody is left, it is nobody's."""
    if not done.cancelled():
        done.exception()
