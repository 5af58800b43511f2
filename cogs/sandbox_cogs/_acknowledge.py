"""The first answer to an interaction, which Discord takes once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import discord

from sandbox_cogs._requests import answered

_ALREADY_ACKNOWLEDGED = 40060
_TAKEN = "sandbox:acknowledged"
_ANSWERED_WITHIN = 15.0
"""Seconds in which a process that lives has answered what it acknowledged by "thinking…"."""


class TakenElsewhere(Exception):
    """Another process has acknowledged the interaction.

    Discord also delivers it to the process that resumes a killed one's session, and what it asks for must not
    be done twice.
    """


class _Counted:
    """An HTTP session that counts its requests."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.requests = 0

    def request(self, *arguments: Any, **options: Any) -> Any:
        """Send a request."""
        self.requests += 1
        return self._session.request(*arguments, **options)


def is_acknowledged(interaction: discord.Interaction[Any]) -> bool:
    """Return whether Discord has this process's first answer, also one whose receipt is lost."""
    return interaction.response.is_done() or _TAKEN in interaction.extras


async def acknowledged(
    interaction: discord.Interaction[Any], answer: Callable[[], Awaitable[object]]
) -> bool:
    """Send the first answer; return False when Discord had taken it before it was sent once more.

    Discord's receipt may get lost on its way. The request is repeated then, and Discord refuses the second
    one (JSON error code 40060). The caller goes on in either case: what comes next edits the reply.

    Raises `TakenElsewhere` when the request was not repeated.
    """
    # discord.py takes the session from the interaction when it sends. It does not tell how often it sent.
    session = getattr(interaction, "_session", None)
    counted = _Counted(session)
    if session is not None:
        interaction._session = counted  # type: ignore[assignment]
    try:
        await answered(answer)
    except discord.HTTPException as error:
        if error.code != _ALREADY_ACKNOWLEDGED:
            raise
        if counted.requests < 2:
            raise TakenElsewhere from error
        interaction.extras[_TAKEN] = True
        return False
    finally:
        if session is not None:
            interaction._session = session
    return True


async def answer_for_another(interaction: discord.Interaction[Any], embed: discord.Embed) -> None:
    """Show the embed after a time if the caller still sees that the bot is "thinking": that process is gone.

    Raises what an edit raises.
    """
    await asyncio.sleep(_ANSWERED_WITHIN)
    message = await answered(interaction.original_response)
    if message.flags.loading:
        await answered(lambda: interaction.edit_original_response(embed=embed))
