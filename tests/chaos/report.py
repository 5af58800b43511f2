"""The table of a chaos run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .judge import Verdict

_MUST_BE_ZERO = ("lost", "doubled", "wrong side", "altered", "out of order", "strange")


def table(verdicts: dict[str, Verdict], seed: int) -> Table:
    """One line per scenario."""
    shown = Table(title=f"Seed {seed}", title_justify="left", pad_edge=False)
    shown.add_column("scenario", no_wrap=True)
    for column in (
        *("sent", "delivered", *_MUST_BE_ZERO),
        *("Discord's gaps", "unattr.", "gone", "again", "dropped", "identifies", "resumes", "s"),
    ):
        shown.add_column(column, justify="right")
    shown.add_column("commands")
    shown.add_column("")
    for name, v in verdicts.items():
        figures = (v.lost, v.doubled, v.wrong_side, v.altered, v.disordered, v.strange)
        identifies = f"{v.identifies}" if v.identifies <= v.identifies_allowed else f"[red]{v.identifies}[/]"
        shown.add_row(
            name,
            f"{v.sent:,}",
            f"{v.delivered:,}",
            *(f"[red]{figure:,}[/]" if figure else "0" for figure in figures),
            *(f"{v.gaps:,}", f"{v.unattributed:,}", f"{v.gone:,}", f"{v.repeated:,}", f"{v.dropped:,}"),
            *(identifies, str(v.resumes), f"{v.seconds:.0f}", v.commands),
            "[green]ok[/]" if v.passed else "[red]FAILED[/]",
        )
    return shown


def kills(console: Console, verdicts: dict[str, Verdict]) -> None:
    """How long killed processes and hung servers were missed."""
    for name, verdict in verdicts.items():
        for what, seconds in (
            ("from SIGKILL to RESUMED, the start of the next process included", verdict.kills.resumed),
            ("from SIGKILL until the name of a creation that it cut off was free again", verdict.kills.freed),
            ("from SIGCONT of the server until /readyz was well and an event stored", verdict.backs),
        ):
            if seconds:
                console.print(f"{name}: {', '.join(f'{each:.1f} s' for each in seconds)} {what}")


def beside(console: Console, verdicts: dict[str, Verdict]) -> None:
    """Production's latency during the faults, and in the runs beside without them."""
    compared = {name: v.beside for name, v in verdicts.items() if v.beside is not None}
    if not compared:
        return
    title = "Production, milliseconds from Discord to stored, in the same seconds"
    shown = Table(title=title, title_justify="left", pad_edge=False)
    shown.add_column("scenario", no_wrap=True)
    for column in (
        "events",
        "p50",
        "p99",
        "largest",
        "without: events",
        "p50",
        "p99",
        "largest",
        *("ratio of p99", "changing: p99", "load"),
    ):
        shown.add_column(column, justify="right")
    for name, each in compared.items():
        runs = [(one.events, one.p50, one.p99, one.largest) for one in (each.fault, each.without)]
        cells = [text for run in runs for text in (f"{run[0]:,}", *(f"{value:.1f}" for value in run[1:]))]
        changing = "" if each.changing is None else f"{each.changing.p99:.0f}"
        shown.add_row(name, *cells, f"{each.fault.p99 / each.without.p99:.2f}", changing, f"{each.load:.1f}")
    console.print(shown)
    console.print(
        "Of servers whose events never go to a sandbox; changing: of servers that were registered or "
        "unregistered meanwhile, whose events wait until the ones before are stored or given up.",
        style="dim",
    )


def explain(console: Console) -> None:
    """What the columns mean that must not be zero necessarily."""
    console.print(
        "Discord's gaps: events no session was there for, or of a session that Discord had ended. "
        "unattr.: guild-less events of a guild's channel that went to events.unattributed. "
        "gone: acknowledged, then removed with their sandbox or with the server's memory (their "
        "streams are in memory). again: stored once more because the memory that knew of them was lost. "
        "dropped: events that sandboxes lost because their stream took none; exactly those that the bot has "
        "counted.",
        style="dim",
    )


def problems(console: Console, name: str, verdict: Verdict) -> None:
    """What went wrong, in words."""
    for line in (*verdict.problems, *verdict.examples):
        console.print(f"  {name}: {line}", style="red", markup=False, highlight=False)
