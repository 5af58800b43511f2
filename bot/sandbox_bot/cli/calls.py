"""`calls`: what a sandbox's bot asked of Discord, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sandbox_gateway.calls import CallRecord, Ring

from . import _json as json
from . import _options as options
from ._rings import Shown, Whose, show_ring
from ._screen import Cell, Grid
from ._words import iso


def calls(
    name: options.NameUnlessProduction = None,
    *,
    production: options.Production = False,
    follow: options.Follow = False,
    limit: options.Newest = 50,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Show what the bot of a sandbox asked of Discord: route, status, and why a call was refused."""
    show_ring(_CALLS, Whose(name, production, owner), limit, follow=follow, as_json=as_json)


def _table(records: Sequence[CallRecord]) -> Grid:
    return Grid(
        ("time", "method", "route", "status", "ms", "refused"),
        [
            (
                iso(each.time),
                each.method,
                each.route or "unknown",
                Cell(str(each.status), "" if each.status < 400 else "yellow"),
                f"{each.ms:g}",
                each.refused,
            )
            for each in records
        ],
    )


def _line(record: CallRecord) -> str:
    refused = f"  refused: {record.refused}" if record.refused else ""
    call = f"{record.method} {record.route or 'unknown'}"
    return f"{iso(record.time)}  {record.status}  {call}  {record.ms:g} ms{refused}"


def _json(record: CallRecord) -> json.Json:
    return {**asdict(record), "at": iso(record.time), "refused": record.refused or None}


_CALLS = Shown("calls", Ring.of_calls, _table, _line, _json)
