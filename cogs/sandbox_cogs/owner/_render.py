"""Renders the answers to the owner's commands as text; pure.

Tables and files show UTC, because Discord renders its timestamps only in normal text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import discord

from sandbox_core import subjects
from sandbox_core.audit_text import details_line
from sandbox_core.backlog_text import lines as backlog_lines
from sandbox_core.cleanup import CleanupReport, OrphanCleanup, OrphanReport
from sandbox_core.error_text import ErrorText, shown
from sandbox_core.health import SandboxHealth, SystemHealth
from sandbox_core.limits_text import Limits
from sandbox_core.limits_text import lines as limit_lines
from sandbox_core.manager import Changed, Extension
from sandbox_core.models import AuditEntry, Route, Sandbox, SandboxStatus, bots_text
from sandbox_core.namespaces import PartState
from sandbox_core.switch_text import unconfirmed_text

from ._answer import Answer, columns

AUDIT_ENTRIES = 200
"""The most entries of the audit log in one answer."""

_USAGE: tuple[tuple[str, str], ...] = (
    ("help", "this list"),
    ("list", "every live sandbox"),
    ("status", "the state of the bot: sandboxes, servers, events on their way"),
    ("status NAME", "one sandbox and the health of its parts"),
    ("destroy NAME", "delete a sandbox and everything in it; asks first"),
    ("extend NAME DURATION", "let a sandbox live longer: 90m, 24h, 3d"),
    ("audit NAME", "what happened to a sandbox, destroyed ones too (by id or last name)"),
    ("routes", "which server's events go to which sandbox"),
    ("cleanup", "remove expired sandboxes now, and what destroyed ones left"),
    ("orphans", "what lies in the stores and belongs to no sandbox"),
    ("orphans fix", "delete those that destroyed sandboxes left"),
    ("orphans fix unknown", "delete also those of sandboxes unknown here"),
    ("sync", "publish the slash commands in the dev servers"),
    ("health", "each server this bot needs, how fast it answers, and a button to prove the isolation"),
)

_HEALTH_MARK: Mapping[PartState, str] = {
    PartState.HEALTHY: "🟢",
    PartState.DEGRADED: "🟠",
    PartState.UNHEALTHY: "🔴",
}

GuildNames = Mapping[str, str]
"""The known names of guilds, by id."""


def usage() -> Answer:
    """The answer to `help`."""
    return Answer(
        "**My commands here.** Every other message goes to production.",
        columns(_USAGE),
    )


def listing(sandboxes: Sequence[Sandbox]) -> Answer:
    """The answer to `list`."""
    if not sandboxes:
        return Answer("There are no sandboxes.")
    rows = [("ID", "NAME", "OWNER", "STATUS", "SERVERS", "EXPIRES (UTC)")]
    for sandbox in sandboxes:
        servers = str(len(sandbox.guild_ids))
        owner = shown(sandbox.owner_name)
        rows.append(
            (sandbox.short_id, sandbox.name, owner, sandbox.status, servers, _utc(sandbox.expires_at))
        )
    return Answer(f"**{_count(len(sandboxes), 'sandbox', 'sandboxes')}**", columns(rows), "sandboxes.txt")


def status(health: SandboxHealth, names: GuildNames, events: int, *, limits: Limits, now: datetime) -> Answer:
    """The answer to `status NAME`; `events` is the number of events in the last minute."""
    sandbox = health.sandbox
    running = sandbox.status is SandboxStatus.RUNNING
    if running and not sandbox.routes_at(now):
        state = "🟠 expired; its servers' events go to production and cleanup removes it"
    elif running:
        state = f"{_HEALTH_MARK[health.overall]} {sandbox.status}, {health.overall}"
    else:
        state = f"🟠 {sandbox.status}"
    created, expires = _moment(sandbox.created_at), _moment(sandbox.expires_at)
    lines = [
        f"**{sandbox.name}**: {state}",
        f"Owner: {_plain(sandbox.owner_name)} (`{shown(sandbox.owner)}`)",
        f"Id: `{sandbox.id}`, schema `{sandbox.schema_name}`",
        f"Created {created}, expires {expires} ({discord.utils.format_dt(sandbox.expires_at, 'R')})",
        f"Servers: {_guilds(sandbox.guild_ids, names)}",
        f"Ordinary bots: {bots_text(sandbox, health.clients)}",
        f"Events in the last minute: {events}",
    ]
    if sandbox.events_dropped_since is not None:
        since = _moment(sandbox.events_dropped_since)
        lines.append(f"Events dropped: {sandbox.events_dropped:,}, since {since}: NATS did not take them.")
    lines += [
        f"{each.what}{each.name and f' `{each.name}`'}: {discord.utils.escape_markdown(each.text)}"
        for each in backlog_lines(health)
    ]
    lines += [f"{place}: {text}" for place, text in limit_lines(health, limits, now)]
    lines += [
        f"{_HEALTH_MARK[part.state]} {part.store}: {part.state}, {part.latency_ms:.0f} ms; {part.detail}"
        for part in health.parts
    ]
    return Answer("\n".join(lines), filename=f"{sandbox.name}.txt")


def overview(
    sandboxes: Sequence[Sandbox] | None,
    problem: str,
    *,
    guilds: int,
    routed: int,
    current: bool,
    trouble: str,
    pending: int,
    waiting_for: str,
) -> Answer:
    """The answer to `status` alone; `sandboxes` is None when they can't be read because of `problem`."""
    if sandboxes is None:
        living = f"🔴 Sandboxes: unknown ({problem})"
    else:
        counts = Counter(sandbox.status for sandbox in sandboxes)
        known = ", ".join(f"{counts[state]} {state}" for state in SandboxStatus if counts[state])
        living = f"🟢 Sandboxes: {known or 'none'}"
    servers = f"The bot is in {_count(guilds, 'server', 'servers')}; {routed} registered with sandboxes"
    routing = (
        f"🟢 {servers}" if current else f"🟠 {servers}; changes may come late ({trouble or 'not loaded'})"
    )
    waiting = f"; they wait for {waiting_for}" if waiting_for else ""
    events = f"{'🔴' if waiting_for else '🟢'} Events on their way: {pending}{waiting}"
    return Answer(f"{living}\n{routing}\n{events}")


def destroy_question(sandbox: Sandbox, names: GuildNames, life: timedelta) -> Answer:
    """The question of `destroy NAME`: it lists everything that will be deleted."""
    lines = [
        f"**Destroy `{sandbox.name}`?** It is {sandbox.status} and belongs to {_plain(sandbox.owner_name)}.",
        "This can't be undone. It deletes",
        f"- PostgreSQL: the schema `{sandbox.schema_name}` with every table and row in it",
        f"- Redis: every key under `{subjects.redis_prefix(sandbox.id)}`",
        f"- NATS: every message waiting on `{subjects.sandbox_filter(sandbox.id)}`",
    ]
    if sandbox.guild_ids:
        lines.append(
            f"and gives these servers' events back to production: {_guilds(sandbox.guild_ids, names)}."
        )
    minutes = life.total_seconds() / 60
    lines.append(f"To do it, send `destroy {sandbox.name} yes` within {minutes:g} minutes.")
    return Answer("\n".join(lines), filename=f"{sandbox.name}.txt")


def destroyed(gone: Changed) -> Answer:
    """The answer after the sandbox was destroyed."""
    return Answer(
        f"⚫ **{gone.sandbox.name}** is destroyed: its schema, keys and messages are deleted, and its "
        f"servers' events go to production.{_unconfirmed(gone)}"
    )


def extended(extension: Extension) -> Answer:
    """The answer to `extend`."""
    sandbox = extension.sandbox
    relative = discord.utils.format_dt(sandbox.expires_at, "R")
    text = f"**{sandbox.name}** now lives until {_moment(sandbox.expires_at)} ({relative})."
    if extension.capped:
        text += "\nThat is less than you asked for: it is the longest life a sandbox may have."
    return Answer(text + _unconfirmed(extension))


def _unconfirmed(changed: Changed) -> str:
    text = unconfirmed_text(changed.unconfirmed)
    return f"\n⚠️ {discord.utils.escape_markdown(text)}" if text else ""


def audit(reference: str, entries: Sequence[AuditEntry]) -> Answer:
    """The answer to `audit`."""
    rows = [("TIME (UTC)", "EVENT", "ACTOR", "DETAILS")]
    for entry in entries:
        details = details_line(entry.details)
        # The details contain users' names: remove only what could end the code block.
        flat = " ".join(details.replace("`", "'").split())
        rows.append(
            (f"{entry.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", entry.event_type, entry.actor, flat)
        )
    head = f"**Audit log of `{shown(reference)}`**: {_count(len(entries), 'entry', 'entries')}"
    if len(entries) == AUDIT_ENTRIES:
        head += ", the newest"
    return Answer(head, columns(rows), f"audit-{shown(reference)}.txt")


def routes(
    routed: Mapping[str, Route],
    names: Mapping[str, str],
    guilds: GuildNames,
    statistics: Mapping[str, int | bool],
) -> Answer:
    """The answer to `routes`; `names` are the sandboxes' by id."""
    if routed:
        head = f"**{_count(len(routed), 'server sends its', 'servers send their')} events to sandboxes**"
    else:
        head = "**Every server's events go to production**"
    counts = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in statistics.items() if key != "current"
    )
    rows = [("SERVER", "NAME", "SANDBOX", "UNTIL (UTC)")]
    for guild_id, route in sorted(routed.items(), key=lambda item: (names.get(item[1].sandbox_id, ""), item)):
        until = _utc(datetime.fromtimestamp(route.expires_at, UTC))
        sandbox = names.get(route.sandbox_id, route.sandbox_id)
        rows.append((guild_id, shown(guilds.get(guild_id, "?")), sandbox, until))
    text = f"{head}\nLook-ups by this process: {counts}."
    return Answer(text, columns(rows) if routed else (), "routes.txt")


def cleaned(report: CleanupReport, left: OrphanCleanup) -> Answer:
    """The answer to `cleanup`."""
    lines = []
    if report.destroyed:
        names = ", ".join(f"`{sandbox.name}`" for sandbox in report.destroyed)
        lines.append(f"🟢 Removed {_count(len(report.destroyed), 'sandbox', 'sandboxes')}: {names}")
    for failure in report.failed:
        again = discord.utils.format_dt(failure.next_attempt_at, "R")
        lines.append(
            f"🔴 `{failure.sandbox.name}` is not removed: “{failure.step}” failed ({shown(failure.reason)}), "
            f"attempt {failure.attempts}; the next one {again}"
        )
    if report.left_to_others:
        lines.append(f"Being removed elsewhere at this moment: {report.left_to_others}")
    if left.removed:
        lines.append(f"🟢 Deleted {_count(len(left.removed), 'orphan', 'orphans')}")
    lines += _not_removed(left, unknown=False)
    return Answer("\n".join(lines) or "No sandbox has expired: nothing to remove.", filename="cleanup.txt")


def orphans(report: OrphanReport) -> Answer:
    """The answer to `orphans`."""
    lines = [f"🔴 {store} can't be read: {shown(reason)}" for store, reason in report.unreadable.items()]
    lines += [f"🟠 `{each.sandbox.name}` runs without {each.missing}" for each in report.degraded]
    if not report.orphans:
        lines.append(
            "There are no orphans." if not report.unreadable else "The other stores have no orphans."
        )
        return Answer("\n".join(lines), filename="orphans.txt")
    number = f"**{_count(len(report.orphans), 'orphan', 'orphans')}**"
    if all(orphan.known for orphan in report.orphans):
        lines.append(f"{number}; `orphans fix` deletes all of them.")
    else:
        lines.append(f"{number}; `orphans fix` deletes what destroyed sandboxes left.")
        lines.append(
            "Those unknown here may belong to another installation on the same servers: "
            "`orphans fix unknown` deletes them too."
        )
    rows = [("STORE", "WHAT", "WHOSE")]
    rows += [
        (orphan.store, orphan.name, "a destroyed sandbox's" if orphan.known else "unknown here")
        for orphan in report.orphans
    ]
    return Answer("\n".join(lines), columns(rows), "orphans.txt")


def orphans_removed(done: OrphanCleanup, *, unknown: bool) -> Answer:
    """The answer to `orphans fix`; with `unknown` those of unknown sandboxes were deleted, too."""
    lines = _not_removed(done, unknown=unknown)
    lines.append(f"Deleted {_count(len(done.removed), 'orphan', 'orphans')}.")
    rows = [(orphan.store, orphan.name) for orphan in done.removed]
    return Answer("\n".join(lines), columns(rows) if rows else (), "orphans.txt")


def _not_removed(done: OrphanCleanup, *, unknown: bool) -> list[str]:
    lines = [f"🔴 {store} can't be read: {shown(reason)}" for store, reason in done.found.unreadable.items()]
    lines += [f"🔴 `{each.name}` is not deleted: {shown(reason)}" for each, reason in done.failed.items()]
    live = [each for each in done.spared if each.known or unknown]
    lines += [f"🟠 `{each.name}` was left alone: it belongs to a live sandbox by now" for each in live]
    strangers = len(done.spared) - len(live)
    if strangers:
        left = _count(strangers, "orphan is", "orphans are")
        lines.append(f"🟠 {left} unknown here and left alone; `orphans` shows what they are")
    return lines


def no_commands_loaded() -> Answer:
    """The answer to `sync` in a bot without the slash commands."""
    return Answer(
        "The slash commands are not loaded: `sandbox_cogs.sandbox` is not among this bot's extensions."
    )


def synced(results: Mapping[str, str], names: GuildNames) -> Answer:
    """The answer to `sync`: each dev server with "" or its failure."""
    if not results:
        return Answer(
            "No dev server is set, so there is nowhere to publish: `DISCORD_DEV_GUILD_IDS` names them."
        )
    lines = [
        f"{'🔴' if problem else '🟢'} {_guilds([guild_id], names)}: {problem or '`/sandbox` is published'}"
        for guild_id, problem in results.items()
    ]
    return Answer("\n".join(lines))


def health(system: SystemHealth, *, gateway_seconds: float, gateway_ready: bool) -> Answer:
    """The answer to `health`; `gateway_seconds` is the last heartbeat's latency, NaN before the first."""
    beat = f", heartbeat {gateway_seconds * 1000:.0f} ms" if math.isfinite(gateway_seconds) else ""
    lines = [
        f"**The bot's servers: {system.overall}**",
        f"{_mark(gateway_ready)} Discord: {'connected' if gateway_ready else 'not connected'}{beat}",
    ]
    for each in system.checks:
        took = f", {each.latency_ms:.1f} ms" if each.latency_ms else ""
        lines.append(f"{_HEALTH_MARK[each.state]} {each.store}: {each.detail}{took}")
    return Answer("\n".join(lines))


def refusal(text: ErrorText) -> Answer:
    """The answer for an error with a code: what was wrong, and what to do."""
    return Answer("\n".join(line for line in (text.sentence, text.way_out, f"-# {text.code}") if line))


def fault(error_id: str) -> Answer:
    """The answer for an unexpected failure; the log has it under the id."""
    return Answer(f"Something went wrong inside the bot. It is in the log under `{error_id}`.")


def _mark(good: bool) -> str:
    return "🟢" if good else "🔴"


def _guilds(guild_ids: Sequence[str], names: GuildNames) -> str:
    labels = [
        f"{_plain(names[guild_id])} (`{guild_id}`)" if guild_id in names else f"`{guild_id}`"
        for guild_id in guild_ids
    ]
    return ", ".join(labels) or "none"


def _plain(text: str) -> str:
    return discord.utils.escape_markdown(shown(text))


def _moment(when: datetime) -> str:
    return discord.utils.format_dt(when, "f")


def _utc(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
