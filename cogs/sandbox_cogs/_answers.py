"""Tells answers of Discord's API from answers of a proxy, and says what an error of a request means."""

from __future__ import annotations

import math

import aiohttp
import discord

from sandbox_core.addresses import discord_where
from sandbox_core.errors import DependencyUnavailable

NO_ANSWER = (aiohttp.ClientError, OSError, TimeoutError)
"""The errors of a request that Discord did not answer."""

_LONGEST_WAIT = 300.0


def is_discords(error: discord.HTTPException) -> bool:
    """Return whether Discord itself refused the request.

    Discord answers in JSON. A proxy such as Cloudflare's answers with its own page, with any status. That
    says nothing about guilds, members or tokens, so Discord counts as away.
    """
    # Most of Discord's JSON has a code. An answer without one, such as for a wrong token, has the type JSON.
    return error.code != 0 or error.response.headers.get("Content-Type", "").startswith("application/json")


def retry_after_of(error: discord.HTTPException) -> float:
    """Return the seconds in the answer's Retry-After: 0 without one, at most 300."""
    try:
        seconds = float(error.response.headers.get("Retry-After", 0))
    except ValueError:
        # A date: the growing pauses of the caller are enough.
        return 0.0
    return min(seconds, _LONGEST_WAIT) if math.isfinite(seconds) and seconds > 0 else 0.0


def discord_away(
    error: BaseException | None = None, *, seconds: float | None = None
) -> DependencyUnavailable:
    """Return the error for a request that failed: with an answer, without one, or after so many `seconds`."""
    where = discord_where(discord.http.Route.BASE)
    if isinstance(error, discord.HTTPException):
        who = "it" if is_discords(error) else "a proxy before it"
        return DependencyUnavailable("Discord", f"{who} answered with status {error.status}", where)
    if error is None or isinstance(error, TimeoutError):
        within = "in time" if seconds is None else f"within {seconds:g} s"
        return DependencyUnavailable("Discord", f"no answer {within}", where)
    return DependencyUnavailable("Discord", f"it can't be reached ({type(error).__name__})", where)
