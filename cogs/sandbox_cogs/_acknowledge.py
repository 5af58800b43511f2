"""The first answer to an interaction, which Discord takes once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import discord

from sandbox_cogs._requests import answered

_ALREADY_ACKNOWLEDGED = 40060
_TAKEN = "sandbox:acknowledged"


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

    Raises that refusal when the request was not repeated: another process has acknowledged the interaction.
    Discord also delivers it to the process that resumes a killed one's session, and its command must not be
    done twice.
    """
    # discord.py takes the session from the interaction when it sends. It does not tell how often it sent.
    session = getattr(interaction, "_session", None)
    counted = _Counted(session)
    if session is not None:
        interaction._session = counted  # type: ignore[assignment]
    try:
        await answered(answer)
    except discord.HTTPException as error:
        if error.code != _ALREADY_ACKNOWLEDGED or counted.requests < 2:
            raise
        interaction.extras[_TAKEN] = True
        return False
    finally:
        if session is not None:
            interaction._session = session
    return True
