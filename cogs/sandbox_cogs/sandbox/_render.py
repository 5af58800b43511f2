"""Renders sandboxes as Discord embeds; pure, always within Discord's limits (see `_text`)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import discord

from sandbox_core import subjects
from sandbox_core.backlog_text import lines as backlog_lines
from sandbox_core.error_text import ErrorText
from sandbox_core.event_router import LastEvent
from sandbox_core.health import SandboxHealth
from sandbox_core.last_event_text import last_event_text
from sandbox_core.limits_text import Limits
from sandbox_core.limits_text import lines as limit_lines
from sandbox_core.manager import Changed, Extension, Registration
from sandbox_core.models import (
    UNFINISHED_RESET,
    GuildAccess,
    Sandbox,
    SandboxStatus,
    bots_text,
    isolation_text,
    level_text,
)
from sandbox_core.namespaces import PartHealth
from sandbox_core.stored import Level
from sandbox_core.words import counted

from ._render_share import add_shares
from ._text import (
    AMBER,
    BLUE,
    DESCRIPTION_LIMIT,
    FIELD_LIMIT,
    GREEN,
    GREY,
    HEALTH_LOOK,
    RED,
    STATUS_LOOK,
    TITLE_LIMIT,
    GuildNames,
    add_unconfirmed,
    cut,
    guild_label,
    joined,
    moment,
    owner_label,
    relative,
)

# Four parts of this size, the other fields and the title stay below 6000 characters together.
_PART_LIMIT = 450
_BACKLOG_LIMIT, _LINE_LIMIT = 700, 200
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """A guild's traffic to production, as far as this process knows it."""

    events: int
    """About how many events went to production in the last minute, or since `observed` began."""
    observed: float
    """For how many seconds this process has received the guild's events; 0 when another process does."""
    last: LastEvent
    """The guild's last event within a day, from all processes."""

    @property
    def is_none(self) -> bool:
        """Whether the whole last day is known and no event went to production."""
        return self.events == 0 and self.last.is_none


@dataclass(frozen=True, slots=True)
class Doubt:
    """The reasons for a question before a guild is registered."""

    access: GuildAccess
    traffic: Traffic
    protected: bool
    """Whether only the bot's owner may register the guild."""


def created(made: Changed, names: GuildNames, doubt: Doubt | None = None) -> discord.Embed:
    """The answer to `create`; with a doubt it explains what registering the server would change."""
    sandbox = made.sandbox
    embed = discord.Embed(title=f"Sandbox {sandbox.name} is running", colour=GREEN)
    _add_identity(embed, sandbox)
    _add_servers(embed, sandbox, names)
    if doubt is not None:
        embed.add_field(name="Not registered yet", value=_doubt(doubt, sandbox), inline=False)
    if sandbox.guild_ids:
        embed.description = (
            "The live events of its servers now go to this sandbox, and no longer to production."
        )
    embed.set_footer(text="/sandbox help shows all commands.")
    return add_unconfirmed(embed, made)


def status(
    health: SandboxHealth,
    names: GuildNames,
    *,
    limits: Limits,
    now: datetime,
    events_last_minute: int,
    watched_until: datetime | None = None,
    not_watched: bool = False,
) -> discord.Embed:
    """The answer to `status`: the sandbox, and the health of each of its parts.

    `not_watched` means that too many messages are kept up to date already.
    """
    sandbox = health.sandbox
    if sandbox.status is SandboxStatus.RUNNING:
        mark, colour = HEALTH_LOOK[health.overall]
        state = f"{mark} {sandbox.status}, {health.overall}"
    else:
        mark, colour = STATUS_LOOK[sandbox.status]
        state = f"{mark} {sandbox.status}"
    if sandbox.status is SandboxStatus.RUNNING and not sandbox.routes_at(now):
        mark, colour = STATUS_LOOK[SandboxStatus.EXPIRED]
        state = f"{mark} expired; its servers' events go to production and cleanup removes it"
    if full := [stored.store for stored in sandbox.storage if stored.level is Level.FULL]:
        state += f"\nIt stores as much as it may in {' and '.join(full)}."
    if sandbox.resetting:
        state += f"\n{UNFINISHED_RESET}"
    if watched_until is not None:
        state += f"\nThis message is kept up to date; that ends {relative(watched_until)}."
    if not_watched:
        state += "\nToo many messages are being kept up to date already; this one is not."
    embed = discord.Embed(title=f"Sandbox {sandbox.name}", description=state, colour=colour, timestamp=now)
    _add_identity(embed, sandbox)
    _add_servers(embed, sandbox, names)
    add_shares(embed, sandbox)
    embed.add_field(name="Ordinary bots", value=bots_text(sandbox, health.clients), inline=False)
    embed.add_field(name="Backlog", value=_backlog(health), inline=False)
    events = counted(events_last_minute, "event", "events")
    embed.add_field(name="In the last minute", value=f"{events} received", inline=False)
    if sandbox.events_dropped_since is not None:
        dropped = counted(sandbox.events_dropped, "event", "events")
        text = f"{dropped} dropped, since {relative(sandbox.events_dropped_since)}: NATS did not take them."
        embed.add_field(name="Dropped", value=text, inline=False)
    used = "\n".join(f"{place}: {text}" for place, text in limit_lines(health, limits, now))
    embed.add_field(name="Limits", value=cut(used, FIELD_LIMIT), inline=False)
    for part in health.parts:
        embed.add_field(name=f"{HEALTH_LOOK[part.state][0]} {part.store}"[:TITLE_LIMIT], value=_part(part))
    embed.set_footer(text="As of")
    return embed


def which_sandbox(count: int) -> discord.Embed:
    """The question above a menu of the caller's sandboxes."""
    text = (
        f"You have {counted(count, 'sandbox', 'sandboxes')}, and this server is registered with none of them."
    )
    return discord.Embed(title="Which sandbox?", description=text, colour=BLUE)


def registered(changed: Registration, access: GuildAccess) -> discord.Embed:
    """The answer to `register-guild`: where the guild's events go from now on."""
    sandbox = changed.sandbox
    server = guild_label(access.guild_id, {access.guild_id: access.name})
    title, since = (
        ("Server registered already", "already") if changed.already else ("Server registered", "now")
    )
    embed = discord.Embed(title=title, colour=GREEN)
    embed.description = (
        f"The live events of {server} {since} go to the sandbox `{sandbox.name}` and no longer to "
        f"production, until {moment(sandbox.expires_at)} ({relative(sandbox.expires_at)}) or "
        f"`/sandbox unregister-guild guild:{access.guild_id}`."
    )
    embed.add_field(name="Subjects", value=f"`{subjects.sandbox_events(sandbox.id)}`", inline=False)
    return add_unconfirmed(embed, changed)


def register_question(sandbox: Sandbox, doubt: Doubt) -> discord.Embed:
    """The question before a server that is protected or in use is registered."""
    return discord.Embed(
        title=f"Take this server away from production, for {sandbox.name}?",
        description=_doubt(doubt, sandbox),
        colour=RED if doubt.protected else AMBER,
    )


def unregistered(changed: Changed, access: GuildAccess) -> discord.Embed:
    """The answer to `unregister-guild`."""
    sandbox = changed.sandbox
    server = guild_label(access.guild_id, {access.guild_id: access.name})
    embed = discord.Embed(title="Server unregistered", colour=GREEN)
    embed.description = f"The events of {server} go to production again, and no longer to `{sandbox.name}`."
    return add_unconfirmed(embed, changed)


def extended(extension: Extension) -> discord.Embed:
    """The answer to `extend`."""
    sandbox = extension.sandbox
    text = f"`{sandbox.name}` now lives until {moment(sandbox.expires_at)} ({relative(sandbox.expires_at)})."
    if extension.capped:
        text += "\nThat is less than you asked for: it is the longest life a sandbox may have."
    return add_unconfirmed(discord.Embed(title="Sandbox extended", description=text, colour=GREEN), extension)


def level_set(sandbox: Sandbox) -> discord.Embed:
    """The answer to `level`."""
    text = f"The bot of `{sandbox.name}` may now {level_text(sandbox.rest_level)}."
    return discord.Embed(title="Level set", description=text, colour=GREEN)


def environment(
    sandbox: Sandbox, variables: Mapping[str, str], title: str
) -> tuple[discord.Embed, discord.File]:
    """The answer to `connect` and `rotate`: a block for a shell, a command that does the same, and a file."""
    exports = "\n".join(f'export {name}="{value}"' for name, value in variables.items())
    text = f"```sh\n{exports}\n```"
    if len(text) > DESCRIPTION_LIMIT:
        text = "The environment is too long to show here; the attached file has all of it."
    embed = discord.Embed(title=title, description=text, colour=BLUE)
    line = f'```sh\neval "$(sandboxctl connect {sandbox.name})"\n```'
    embed.add_field(name="Where sandboxctl is installed, one line does the same", value=line, inline=False)
    embed.set_footer(text="Paste the block into a shell, or save the file as .env beside your worker.")
    dotenv = "".join(f"{name}={value}\n" for name, value in variables.items())
    # Discord drops a leading dot from names of attachments, so the file is named after the sandbox.
    file = discord.File(io.BytesIO(dotenv.encode()), filename=f"{sandbox.name}.env")
    return embed, file


def refusal(text: ErrorText) -> discord.Embed:
    """The answer for an error with a code: what was wrong, and what to do."""
    if len(text.sentence) <= TITLE_LIMIT:
        embed = discord.Embed(title=text.sentence, description=cut(text.way_out, 2000), colour=RED)
    else:
        words = f"{cut(text.sentence, 2000)}\n{cut(text.way_out, 2000)}"
        embed = discord.Embed(title="That did not work", description=words, colour=RED)
    embed.set_footer(text=text.code)
    return embed


def fault(error_id: str) -> discord.Embed:
    """The answer for an unexpected failure; the log has it under the id."""
    return discord.Embed(
        title="Something went wrong inside the bot",
        description=f"The bot's log has the reason under `{error_id}`; the bot's owner can look it up.",
        colour=RED,
    )


def unshown(error_id: str) -> discord.Embed:
    """The answer when the work is done and its own answer could not be shown."""
    return discord.Embed(
        title="It is done, but the answer could not be shown",
        description=f"`/sandbox status` shows the result. The bot's log has the reason under `{error_id}`.",
        colour=AMBER,
    )


def stopped() -> discord.Embed:
    """The answer for a process that stopped before it answered."""
    return discord.Embed(
        title="The bot was stopped while it worked on this",
        description="It may be done or not: look with `/sandbox list` before you repeat it.",
        colour=AMBER,
    )


def nothing_done(title: str, reason: str) -> discord.Embed:
    """The answer when a question ended without a change."""
    return discord.Embed(title=title, description=reason, colour=GREY)


def outdated() -> discord.Embed:
    """The answer to a button that another version of the bot created."""
    text = "It was made by another version of the bot; run the command again."
    return discord.Embed(title="This button does not work any more", description=text, colour=GREY)


def working(what: str) -> discord.Embed:
    """The message while the work runs."""
    return discord.Embed(title=f"{what}…", colour=AMBER)


def command_help(
    commands: Sequence[tuple[str, str]], *, default_hours: float, longest_hours: float, most: int
) -> discord.Embed:
    """The answer to `help`: what each command does, and the limits."""
    embed = discord.Embed(title="Sandboxes", colour=BLUE)
    lines = "\n".join(f"`/{name}` · {description}" for name, description in commands)
    embed.description = (
        "The servers registered with a sandbox send it their live events, and production gets none of them "
        "meanwhile. Your bot runs in it as it is and sees these servers only: `sandboxctl exec NAME -- …`. A "
        "worker also has a PostgreSQL schema, a prefix for Redis keys and a NATS subject of its own there."
        f"\n\n{lines}"
    )
    limits = (
        f"A sandbox lives {default_hours:g} hours unless you say otherwise, and at most {longest_hours:g}. "
        f"You may have {counted(most, 'sandbox', 'sandboxes')} at a time. When a sandbox ends, everything in "
        "it is deleted and its servers' events go to production again."
    )
    embed.add_field(name="How long and how many", value=limits, inline=False)
    return embed


def _doubt(doubt: Doubt, sandbox: Sandbox) -> str:
    access = doubt.access
    server = guild_label(access.guild_id, {access.guild_id: access.name})
    sentences = [f"{server} is one of the protected servers."] if doubt.protected else []
    if traffic := _traffic(doubt.traffic, server):
        sentences.append(traffic)
    sentences.append(
        f"Once it is registered, production gets none of its events: they go to `{sandbox.name}` until "
        f"{moment(sandbox.expires_at)} ({relative(sandbox.expires_at)}), or until it is unregistered."
    )
    return " ".join(sentences)


def _traffic(traffic: Traffic, server: str) -> str:
    if traffic.is_none:
        return ""
    if traffic.events and traffic.observed >= _MINUTE:
        events = counted(traffic.events, "event", "events")
        return f"In the last minute about {events} of {server} went to production."
    return last_event_text(traffic.last, server)


def _add_identity(embed: discord.Embed, sandbox: Sandbox) -> None:
    embed.add_field(name="Owner", value=owner_label(sandbox))
    expires = f"{relative(sandbox.expires_at)}\n{moment(sandbox.expires_at)}"
    embed.add_field(name="Expires", value=expires)
    embed.add_field(name="Schema", value=f"`{sandbox.schema_name}`")
    if sandbox.template:
        embed.add_field(name="Template", value=f"`{sandbox.template}`")
    embed.add_field(name="Id", value=f"`{sandbox.id}`", inline=False)
    embed.add_field(name="Isolation", value=isolation_text(sandbox), inline=False)


def _add_servers(embed: discord.Embed, sandbox: Sandbox, names: GuildNames) -> None:
    labels = [guild_label(guild_id, names) for guild_id in sandbox.guild_ids]
    embed.add_field(name="Servers", value=joined(labels, FIELD_LIMIT, "\n") or "none", inline=False)


def _backlog(health: SandboxHealth) -> str:
    said = []
    for each in backlog_lines(health):
        # Both are a stranger's text, without backticks by now.
        name = f" `{each.name}`" if each.name else ""
        said.append(f"{each.what}{name}: {cut(discord.utils.escape_markdown(each.text), _LINE_LIMIT)}")
    return joined(said, _BACKLOG_LIMIT, "\n")


def _part(part: PartHealth) -> str:
    return cut(f"{part.state} · {part.latency_ms:.0f} ms\n{part.detail}".strip(), _PART_LIMIT)
