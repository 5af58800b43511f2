"""The text about a server's events of the last day, before its events leave production."""

from __future__ import annotations

from .event_router import DAY, LastEvent

_MINUTE, _HOUR = 60.0, 3600.0


def last_event_text(last: LastEvent, server: str) -> str:
    """Return one sentence; `server` is the server's name, already formatted for the reader."""
    if last.ago is not None:
        return f"The last event of {server} went to production {_ago(last.ago)}."
    if last.looked_back >= DAY:
        return f"No event of {server} went to production in the last 24 hours."
    if last.looked_back < _MINUTE:
        return f"It is unknown whether events of {server} went to production in the last 24 hours."
    back = _span(last.looked_back)
    return f"No event of {server} went to production in the last {back}; the time before is unknown."


def _ago(seconds: float) -> str:
    return "less than a minute ago" if seconds < _MINUTE else f"about {_span(seconds)} ago"


def _span(seconds: float) -> str:
    if seconds >= 2 * _HOUR:
        return f"{int(seconds // _HOUR)} hours"
    minutes = int(seconds // _MINUTE)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"
