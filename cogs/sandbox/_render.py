"""Sandboxes as Discord embeds; pure, and always within Discord's limits.

Limits, from Discord's developer documentation (channel resource, "Embed Limits"): title 256, description
4096, 25 fields, field name 256, field value 1024, footer 2048, and 6000 characters altogether.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import discord

from sandbox_core import subjects
from sandbox_core.error_text import ErrorText
from sandbox_core.health import SandboxHealth
from sandbox_core.manager import Extension
from sandbox_core.models import GuildAccess, Sandbox, SandboxStatus
from sandbox_core.namespaces import PartHealth, PartState

TITLE_LIMIT = 256
DESCRIPTION_LIMIT = 4096
FIELD_LIMIT = 1024
# Four parts of this size, the other fields and the title together stay below 6000 characters.
_PART_LIMIT = 500

GREEN = discord.Colour(0x2E9E5B)
BLUE = discord.Colour(0x3B7DD8)
AMBER = discord.Colour(0xD9912B)
RED = discord.Colour(0xC8453B)
GREY = discord.Colour(0x7A7F87)

_STATUS_LOOK: Mapping[SandboxStatus, tuple[str, discord.Colour]] = {
    SandboxStatus.PENDING: ("🔵", BLUE),
    SandboxStatus.CREATING: ("🔵", BLUE),
    SandboxStatus.RUNNING: ("🟢", GREEN),
    SandboxStatus.EXPIRED: ("🟠", AMBER),
    SandboxStatus.DESTROYING: ("🟠", AMBER),
    SandboxStatus.DESTROYED: ("⚫", GREY),
}
_HEALTH_LOOK: Mapping[PartState, tuple[str, discord.Colour]] = {
    PartState.HEALTHY: ("🟢", GREEN),
    PartState.DEGRADED: ("🟠", AMBER),
    PartState.UNHEALTHY: ("🔴", RED),
}

GuildNames = Mapping[str, str]
"""Names of guilds by id, as far as they are known."""


def created(sandbox: Sandbox, names: GuildNames) -> discord.Embed:
    """The answer to `create`."""
    embed = discord.Embed(title=f"Sandbox {sandbox.name} is running", colour=GREEN)
    _add_identity(embed, sandbox)
    _add_servers(embed, sandbox, names)
    if sandbox.guild_ids:
        embed.description = (
            "The live events of its servers now go to this sandbox, and no longer to production."
        )
        embed.set_footer(text=f"/sandbox connect name:{sandbox.name} prints the worker's environment.")
    else:
        embed.set_footer(text=f"/sandbox register-guild name:{sandbox.name} sends a server's events here.")
    return embed


def listing(sandboxes: Sequence[Sandbox], *, filtered: bool = False) -> discord.Embed:
    """The answer to `list`; what does not fit is counted in the last line."""
    count = len(sandboxes)
    embed = discord.Embed(title=f"{count} {_plural(count, 'sandbox', 'sandboxes')}", colour=BLUE)
    if sandboxes:
        embed.description = joined([_row(sandbox) for sandbox in sandboxes], DESCRIPTION_LIMIT, "\n")
    elif filtered:
        embed.title = "No sandbox matches"
        embed.description = "`/sandbox list` without filters shows every live one."
    else:
        embed.title = "There are no sandboxes"
        embed.description = "`/sandbox create` makes one in about a second."
    return embed


def status(health: SandboxHealth, names: GuildNames, *, now: datetime) -> discord.Embed:
    """The answer to `status`: what the sandbox is, and how each store serves it."""
    sandbox = health.sandbox
    if sandbox.status is SandboxStatus.RUNNING:
        mark, colour = _HEALTH_LOOK[health.overall]
        state = f"{mark} {sandbox.status}, {health.overall}"
    else:
        mark, colour = _STATUS_LOOK[sandbox.status]
        state = f"{mark} {sandbox.status}"
    if sandbox.status is SandboxStatus.RUNNING and not sandbox.routes_at(now):
        mark, colour = _STATUS_LOOK[SandboxStatus.EXPIRED]
        state = f"{mark} its time is over; its servers' events go to production and cleanup removes it"
    embed = discord.Embed(title=f"Sandbox {sandbox.name}", description=state, colour=colour)
    _add_identity(embed, sandbox)
    _add_servers(embed, sandbox, names)
    for part in health.parts:
        embed.add_field(name=f"{_HEALTH_LOOK[part.state][0]} {part.store}"[:TITLE_LIMIT], value=_part(part))
    return embed


def registered(sandbox: Sandbox, access: GuildAccess) -> discord.Embed:
    """The answer to `register-guild`: whose traffic goes where from now on."""
    server = guild_label(access.guild_id, {access.guild_id: access.name})
    embed = discord.Embed(title="Server registered", colour=GREEN)
    embed.description = (
        f"The live events of {server} now go to the sandbox `{sandbox.name}` and no longer to production, "
        f"until {moment(sandbox.expires_at)} ({relative(sandbox.expires_at)}) or "
        f"`/sandbox unregister-guild guild:{access.guild_id}`."
    )
    embed.add_field(name="Subjects", value=f"`{subjects.nats_prefix(sandbox.id)}events.*`", inline=False)
    return embed


def unregistered(sandbox: Sandbox, access: GuildAccess) -> discord.Embed:
    """The answer to `unregister-guild`."""
    server = guild_label(access.guild_id, {access.guild_id: access.name})
    return discord.Embed(
        title="Server unregistered",
        description=f"The events of {server} go to production again, and no longer to `{sandbox.name}`.",
        colour=GREEN,
    )


def extended(extension: Extension) -> discord.Embed:
    """The answer to `extend`."""
    sandbox = extension.sandbox
    text = f"`{sandbox.name}` now lives until {moment(sandbox.expires_at)} ({relative(sandbox.expires_at)})."
    if extension.capped:
        text += "\nThat is less than you asked for: it is the longest life a sandbox may have."
    return discord.Embed(
        title="Sandbox extended", description=text, colour=AMBER if extension.capped else GREEN
    )


def environment(sandbox: Sandbox, variables: Mapping[str, str]) -> tuple[discord.Embed, discord.File]:
    """The answer to `connect`: a block for a shell, and a `.env` file."""
    exports = "\n".join(f'export {name}="{value}"' for name, value in variables.items())
    text = f"```sh\n{exports}\n```"
    if len(text) > DESCRIPTION_LIMIT:
        text = "The environment is too long to show here; the attached file has all of it."
    embed = discord.Embed(title=f"Environment of {sandbox.name}", description=text, colour=BLUE)
    embed.set_footer(text="Paste the block into a shell, or save the file beside your worker.")
    dotenv = "".join(f"{name}={value}\n" for name, value in variables.items())
    # Discord drops a leading dot from names of attachments, so the file is named after the sandbox.
    file = discord.File(io.BytesIO(dotenv.encode()), filename=f"{sandbox.name}.env")
    return embed, file


def destroy_question(sandbox: Sandbox, names: GuildNames) -> discord.Embed:
    """What `destroy` asks: everything that will be gone."""
    embed = discord.Embed(title=f"Destroy the sandbox {sandbox.name}?", colour=RED)
    embed.description = "This can't be undone. It deletes:"
    deleted = {
        "PostgreSQL": f"the schema `{sandbox.schema_name}` with every table and row in it",
        "Redis": f"every key under `{subjects.redis_prefix(sandbox.id)}`",
        "NATS": f"every message waiting on `{subjects.sandbox_filter(sandbox.id)}`",
    }
    for store, what in deleted.items():
        embed.add_field(name=store, value=what, inline=False)
    if sandbox.guild_ids:
        _add_servers(embed, sandbox, names, "Servers whose events go to production again")
    return embed


def destroying(name: str) -> discord.Embed:
    """Shown while the sandbox is being destroyed."""
    return discord.Embed(title=f"Destroying {name}…", colour=AMBER)


def destroyed(sandbox: Sandbox) -> discord.Embed:
    """The answer when the sandbox is gone."""
    text = "Its schema, keys and messages are deleted, and its servers' events go to production again."
    return discord.Embed(title=f"Sandbox {sandbox.name} is destroyed", description=text, colour=GREY)


def kept(reason: str) -> discord.Embed:
    """The answer when a question ended without anything done."""
    return discord.Embed(title="Nothing was deleted", description=reason, colour=GREY)


def refusal(text: ErrorText) -> discord.Embed:
    """A refusal or failure with a code: what was wrong, and the way out."""
    if len(text.sentence) <= TITLE_LIMIT:
        embed = discord.Embed(title=text.sentence, description=_cut(text.way_out, 2000), colour=RED)
    else:
        words = f"{_cut(text.sentence, 2000)}\n{_cut(text.way_out, 2000)}"
        embed = discord.Embed(title="That did not work", description=words, colour=RED)
    embed.set_footer(text=text.code)
    return embed


def fault(error_id: str) -> discord.Embed:
    """A failure nobody foresaw; the id is in the log."""
    return discord.Embed(
        title="Something went wrong inside the bot",
        description=f"It is in the bot's log under `{error_id}`; whoever runs the bot can look it up.",
        colour=RED,
    )


def choice_label(sandbox: Sandbox) -> str:
    """A sandbox in an autocomplete list; at most the 100 characters Discord allows."""
    return _cut(f"{sandbox.name} · {sandbox.status} · {sandbox.owner_name}", 100)


def guild_label(guild_id: str, names: GuildNames) -> str:
    """A guild for a person: its name where known, and always its id."""
    name = names.get(guild_id)
    if not name:
        return f"`{guild_id}`"
    return f"**{discord.utils.escape_markdown(discord.utils.escape_mentions(name))}** (`{guild_id}`)"


def moment(when: datetime) -> str:
    """A Discord timestamp with date and time, shown in each reader's own zone."""
    return discord.utils.format_dt(when, "f")


def relative(when: datetime) -> str:
    """A Discord timestamp such as "in 3 hours"."""
    return discord.utils.format_dt(when, "R")


def joined(lines: Iterable[str], limit: int, separator: str) -> str:
    """The lines that fit whole into `limit` characters, and one that says how many more there are."""
    everything = list(lines)
    text = separator.join(everything)
    if len(text) <= limit:
        return text
    shown: list[str] = []
    room = limit - len(f"{separator}… and {len(everything)} more")
    for line in everything:
        room -= len(line) + len(separator)
        if room < 0:
            break
        shown.append(line)
    return separator.join([*shown, f"… and {len(everything) - len(shown)} more"])


def _add_identity(embed: discord.Embed, sandbox: Sandbox) -> None:
    embed.add_field(name="Owner", value=_owner(sandbox))
    expires = f"{relative(sandbox.expires_at)}\n{moment(sandbox.expires_at)}"
    embed.add_field(name="Expires", value=expires)
    embed.add_field(name="Schema", value=f"`{sandbox.schema_name}`")
    embed.add_field(name="Id", value=f"`{sandbox.id}`", inline=False)


def _add_servers(embed: discord.Embed, sandbox: Sandbox, names: GuildNames, title: str = "Servers") -> None:
    labels = [guild_label(guild_id, names) for guild_id in sandbox.guild_ids]
    embed.add_field(name=title, value=joined(labels, FIELD_LIMIT, "\n") or "none", inline=False)


def _row(sandbox: Sandbox) -> str:
    servers = len(sandbox.guild_ids)
    end = sandbox.destroyed_at
    fate = f"destroyed {relative(end)}" if end is not None else f"expires {relative(sandbox.expires_at)}"
    return (
        f"{_STATUS_LOOK[sandbox.status][0]} **{sandbox.name}** · {sandbox.status} · `{sandbox.short_id}`\n"
        f"\u2003{_owner(sandbox)} · {servers} {_plural(servers, 'server', 'servers')} · {fate}"
    )


def _part(part: PartHealth) -> str:
    return _cut(f"{part.state} · {part.latency_ms:.0f} ms\n{part.detail}".strip(), _PART_LIMIT)


def _owner(sandbox: Sandbox) -> str:
    # The command line may act for owners that are not Discord users.
    if sandbox.owner.isascii() and sandbox.owner.isdigit():
        return f"<@{sandbox.owner}>"
    return discord.utils.escape_markdown(_cut(sandbox.owner_name, 64))


def _plural(count: int, one: str, several: str) -> str:
    return one if count == 1 else several


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
