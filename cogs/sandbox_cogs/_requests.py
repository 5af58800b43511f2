"""Sends requests to Discord once more where only the answer was lost on its way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

T = TypeVar("T")

PAUSES = (0.5, 1.0, 2.0)
"""The pauses in seconds before a request is sent again."""
_NONCE_LENGTH = 24
"""Discord takes 25 characters (developer documentation, "Create Message")."""


async def answered(request: Callable[[], Awaitable[T]]) -> T:
    """Return the answer to `request`, which is sent again when its connection ends without one.

    discord.py itself sends a request again after a status such as 502, but not after most ends of a
    connection. Discord may have done in both cases what was asked. So this is only for what Discord does
    once, however often it is asked: an edit, a message with a nonce, the first answer to an interaction.

    An `aiohttp.ClientConnectorError` from here means that Discord certainly got nothing.
    """
    lost: Exception | None = None
    pauses = iter(PAUSES)
    while True:
        try:
            return await request()
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and lost is None:
                raise
            lost = lost or error
            if (pause := next(pauses, None)) is None:
                # The first one tells best whether Discord may have got it.
                raise lost from None
        await asyncio.sleep(pause)


def nonce_of(*identity: object) -> str:
    """Return the nonce of one message to one person: the same in every process, and after a restart.

    Discord makes one message of an author's requests with one nonce, for a few minutes. It does not say that
    it tells channels apart, so `identity` has to have the reader in it.
    """
    text = "\0".join(map(str, identity))
    return hashlib.sha256(text.encode()).hexdigest()[:_NONCE_LENGTH]
