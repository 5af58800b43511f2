"""Times that somebody else wrote: on a server that others share, any number may stand there."""

from __future__ import annotations

MARGIN = 60.0
"""How many seconds two clocks may be apart."""


def is_past(moment: float, now: float) -> bool:
    """True for a moment that can have been, give or take the margin; both are in seconds since the epoch.

    Never for what is no number or infinite.
    """
    return 0.0 <= moment <= now + MARGIN
