"""The first answer to an interaction, which Discord takes once."""

from __future__ import annotations

from collections.abc import Awaitable

import discord

_ALREADY_ACKNOWLEDGED = 40060


async def acknowledged(answer: Awaitable[object]) -> bool:
    """Send the first answer; False when Discord says that it has one already.

    Discord's word that it took the answer may get lost on its way. discord.py repeats the request then, and
    Discord refuses the second one (JSON error code 40060). What comes next edits the reply in either case.
    """
    try:
        await answer
    except discord.HTTPException as error:
        if error.code != _ALREADY_ACKNOWLEDGED:
            raise
        return False
    return True
