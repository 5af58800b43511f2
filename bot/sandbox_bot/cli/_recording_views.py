"""Shows recordings as tables, facts and JSON; pure. `docs/cli.md` documents the keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sandbox_core.postgres.recordings import Recording, RecordingStatus
from sandbox_core.words import counted

from ._screen import Cell, Facts, Grid
from ._words import iso

_KILOBYTE = 1000
_STYLES = {
    RecordingStatus.RECORDING: "green",
    RecordingStatus.STOPPING: "yellow",
    RecordingStatus.IMPORTING: "yellow",
}


def table(recordings: Sequence[Recording]) -> Grid:
    """All of them."""
    return Grid(
        ("name", "of", "owner", "status", "began", "events", "size", "missed"),
        [
            (
                Cell(each.name, "bold"),
                each.sandbox_name or "a file",
                each.owner,
                _status(each),
                iso(each.began_at),
                str(each.events),
                size(each.bytes),
                _missed(each),
            )
            for each in recordings
        ],
    )


def facts(recording: Recording, seconds: float | None) -> Facts:
    """One of them, with the time from its first event to its last."""
    rows: list[tuple[str, Cell | str]] = [
        ("Of", recording.sandbox_name or "a file"),
        ("Owner", recording.owner),
        ("Status", _status(recording)),
        ("Began", iso(recording.began_at)),
    ]
    if recording.ended_at is not None:
        rows.append(("Ended", iso(recording.ended_at)))
    if recording.reason:
        rows.append(("Because", recording.reason))
    if seconds is not None:
        rows.append(("First to last", _span(seconds)))
    rows += [("Events", str(recording.events)), ("Size", size(recording.bytes))]
    if _missed(recording):
        rows.append(("Missed", _missed(recording)))
    if recording.scrubbed:
        rows.append(("Scrubbed", "yes"))
    return Facts(rows, Cell(recording.name, "bold"))


def sentence(recording: Recording) -> str:
    """What an ended one has."""
    said = f"{recording.name} has {counted(recording.events, 'event', 'events')}, {size(recording.bytes)}."
    missed = _missed(recording)
    return f"{said} Missed: {missed}." if missed else said


def as_json(recording: Recording) -> dict[str, Any]:
    """The object of `--json`."""
    return {
        "id": str(recording.id),
        "name": recording.name,
        "owner": recording.owner,
        "sandbox": recording.sandbox_name or None,
        "status": recording.status.value,
        "began_at": iso(recording.began_at),
        "ended_at": None if recording.ended_at is None else iso(recording.ended_at),
        "reason": recording.reason or None,
        "events": recording.events,
        "bytes": recording.bytes,
        "missed": recording.missed,
        "gaps": recording.gaps,
        "scrubbed": recording.scrubbed,
        "recorded_now": recording.claimed and recording.status is not RecordingStatus.IMPORTING,
    }


def size(count: int) -> str:
    """A number of bytes."""
    if count < _KILOBYTE:
        return f"{count} B"
    return f"{count / _KILOBYTE:.1f} kB" if count < _KILOBYTE**2 else f"{count / _KILOBYTE**2:.1f} MB"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _status(recording: Recording) -> Cell:
    status = recording.status
    if status in {RecordingStatus.RECORDING, RecordingStatus.STOPPING} and not recording.claimed:
        return Cell(f"{status.value}, once the bot runs", "yellow")
    return Cell(status.value, _STYLES.get(status, ""))


def _missed(recording: Recording) -> str:
    parts = [f"up to {counted(recording.missed, 'event', 'events')}"] if recording.missed else []
    if recording.gaps:
        parts.append(f"what the stream had when it was lost, {counted(recording.gaps, 'time', 'times')}")
    return " and ".join(parts)
