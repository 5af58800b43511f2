"""Who answered a request to Discord's API."""

from __future__ import annotations

import math

import discord

_LONGEST_WAIT = 300.0


def is_discords(error: discord.HTTPException) -> bool:
    """True when Discord itself refused.

    Discord answers in JSON. A proxy in between, such as Cloudflare's, answers with a page of its own, under
    any status: that says nothing about guilds, members or tokens, and Discord counts as away.
    """
    # Only Discord's JSON has a code; of what has none, such as a wrong token, the type tells.
    return error.code != 0 or error.response.headers.get("Content-Type", "").startswith("application/json")


def retry_after_of(error: discord.HTTPException) -> float:
    """Seconds to wait before the next request, by the answer's Retry-After; 0 without one, 300 at most."""
    try:
        seconds = float(error.response.headers.get("Retry-After", 0))
    except ValueError:
        # A date: the pauses that grow are as good.
        return 0.0
    return min(seconds, _LONGEST_WAIT) if math.isfinite(seconds) and seconds > 0 else 0.0
