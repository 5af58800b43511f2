"""Sends the first answer to an interaction, which Discord accepts only once."""

from __future__ import annotations

from collections.abc import Awaitable

import discord

_ALREADY_ACKNOWLEDGED = 40060


async def acknowledged(answer: Awaitable[object]) -> bool:
    """Send the first answer. Return False when Discord already has one.

    Discord's response may be lost. Then discord.py repeats the request, and Discord refuses the second one
    (JSON error code 40060). The next step edits the answer in both cases.
    """
    try:
        await answer
    except discord.HTTPException as error:
        if error.code != _ALREADY_ACKNOWLEDGED:
            raise
        return False
    return True
