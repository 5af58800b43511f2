"""Renders what a proof of isolation has found; pure."""

from __future__ import annotations

import discord

from sandbox_core.error_text import shown
from sandbox_core.isolation import Report, Section, Verdict, verdict
from sandbox_core.words import counted

from ._answer import columns

_FIELD_LIMIT = 1024
"""Discord's limit for one field (developer documentation, "Embed Limits")."""
_SHOWN_AT_MOST = 12


def embed(report: Report) -> discord.Embed:
    """Return the result: the verdict, each server, and what was not denied."""
    title, sentence = verdict(report)
    mark = "🟢" if report.proven else "🔴"
    colour = discord.Colour.green() if report.proven else discord.Colour.red()
    made = discord.Embed(title=f"{mark} {title}", description=sentence, colour=colour)
    for section in report.sections:
        where = f" at {section.where}" if section.where else ""
        made.add_field(name=f"{section.title}{where}", value=_section(section), inline=False)
    if report.failed:
        made.add_field(name="Not denied", value=_not_denied(report), inline=False)
    if report.possible:
        went = counted(report.count(Verdict.POSSIBLE), "attack", "attacks")
        text = f"{went} within the attacker's own rights went through; the attached file has the reasons."
        made.add_field(name="Possible by design", value=text, inline=False)
    if report.left:
        names = ", ".join(f"`{name}`" for name in report.left)
        made.add_field(name="Not removed yet", value=f"{names}; cleanup goes on.", inline=False)
    return made


def stopped() -> discord.Embed:
    """The answer for a process that stopped during the proof."""
    text = "Its sandboxes are removed by themselves. Press the button again."
    return discord.Embed(title="The bot was stopped during the proof", description=text)


def _section(section: Section) -> str:
    denied, failed = section.count(Verdict.DENIED), section.count(Verdict.FAILED)
    if not section.tried:
        return f"🔴 away: {shown(section.away)}" if section.away else "nothing was tried"
    mark = "🔴" if failed or section.away else "🟢"
    text = f"{mark} {denied} of {denied + failed} denied"
    if section.away:
        text += f"; then it went away: {shown(section.away)}"
    return text


def _not_denied(report: Report) -> str:
    lines = [
        f"- {section.title}, {each.group}: **{each.what}** ({shown(each.came_back)})"
        for section, each in report.failed
    ]
    more = len(lines) - _SHOWN_AT_MOST
    text = "\n".join(
        [*lines[:_SHOWN_AT_MOST], *([f"and {more} more, in the attached file"] if more > 0 else [])]
    )
    return text if len(text) <= _FIELD_LIMIT else f"{text[: _FIELD_LIMIT - 1]}…"


def lines(report: Report) -> list[str]:
    """Return every attack and what came of it, for the attached file; empty when none was tried."""
    rows = [
        (section.title, each.group, each.what, each.verdict.value, each.came_back or each.reason)
        for section in report.sections
        for each in section.tried
    ]
    if not rows:
        return []
    # What was not denied comes first.
    rows.sort(key=lambda row: row[3] != Verdict.FAILED.value)
    return list(columns([("SERVER", "ATTACKS", "TRIED", "RESULT", "WHAT CAME BACK, OR WHY IT MAY"), *rows]))
