"""`sessions`: what happened to the connections of a sandbox's bot."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_core.audit_text import details_line
from sandbox_gateway.calls import Ring, SessionRecord

from . import _json as json
from . import _options as options
from ._rings import Shown, Whose, show_ring
from ._screen import Grid
from ._words import iso


def sessions(
    name: options.NameUnlessProduction = None,
    *,
    production: options.Production = False,
    follow: options.Follow = False,
    limit: options.Newest = 50,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Show what happened to the connections of a sandbox's bot: identified, resumed, and why not."""
    show_ring(_SESSIONS, Whose(name, production, owner), limit, follow=follow, as_json=as_json)


def _table(records: Sequence[SessionRecord]) -> Grid:
    return Grid(
        ("time", "what", "details"),
        [(iso(each.time), each.what, details_line(each.details)) for each in records],
    )


def _line(record: SessionRecord) -> str:
    return f"{iso(record.time)}  {record.what}  {details_line(record.details)}"


def _json(record: SessionRecord) -> json.Json:
    return {"at": iso(record.time), "what": record.what, "details": dict(record.details)}


_SESSIONS = Shown("sessions", Ring.of_sessions, _table, _line, _json)
