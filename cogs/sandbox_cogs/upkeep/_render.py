"""Renders notices as Discord embeds; pure."""

from __future__ import annotations

import discord

from sandbox_core.cleanup import Notice, NoticeKind
from sandbox_core.error_text import shown
from sandbox_core.limits_text import REDIS
from sandbox_core.models import Sandbox
from sandbox_core.sharding.registered import MEND, TwoPublishers
from sandbox_core.stored import Level, StorageLimit, Stored, mebibytes

_AMBER = discord.Colour(0xD9912B)
_GREY = discord.Colour(0x7A7F87)
_GREEN = discord.Colour(0x2E9E5B)
_RED = discord.Colour(0xC8453B)


def notice(notice: Notice) -> discord.Embed:
    """The embed of a notice."""
    match notice.kind:
        case NoticeKind.EXPIRES:
            return _expires(notice)
        case NoticeKind.GONE:
            return _gone(notice)
        case NoticeKind.STUCK:
            return _stuck(notice)
        case NoticeKind.STORAGE:
            return _storage(notice)


def two_publishers(notice: TwoPublishers) -> discord.Embed:
    """The notice to the bot's owner that a second process wants to publish the same events."""
    text = notice.text[:1].upper() + notice.text[1:]
    embed = discord.Embed(
        title="Two processes for one bot",
        description=f"{text}. No event is lost or published twice, but one of the two does nothing.",
        colour=_AMBER,
    )
    embed.add_field(name="What to do", value=MEND, inline=False)
    return embed


def buttons(notice: Notice) -> discord.ui.View | None:
    """The buttons Extend and Destroy below a notice about an expiry; `sandbox_cogs.sandbox` handles them."""
    if notice.kind is not NoticeKind.EXPIRES:
        return None
    view = discord.ui.View(timeout=None)
    for label, verb, style in (
        ("Extend", "extend", discord.ButtonStyle.primary),
        ("Destroy", "destroy", discord.ButtonStyle.danger),
    ):
        view.add_item(
            discord.ui.Button(label=label, style=style, custom_id=f"sandbox:{verb}:{notice.sandbox.id}")
        )
    # Not kept in memory: `sandbox_cogs.sandbox` recognises a pressed button by its id.
    view.stop()
    return view


def _expires(notice: Notice) -> discord.Embed:
    sandbox = notice.sandbox
    moment, relative = (discord.utils.format_dt(notice.about, style) for style in ("f", "R"))
    text = f"Your sandbox expires {relative} ({moment}). It is then deleted with everything in it."
    if sandbox.guild_ids:
        servers = "server" if len(sandbox.guild_ids) == 1 else "servers"
        text += f" The events of its {len(sandbox.guild_ids)} {servers} go to production again."
    embed = discord.Embed(title=f"Sandbox {sandbox.name} expires soon", description=text, colour=_AMBER)
    embed.set_footer(text=f"/sandbox extend name:{sandbox.name} lets it live longer.")
    return embed


def _gone(notice: Notice) -> discord.Embed:
    sandbox = notice.sandbox
    over = sandbox.expires_at <= notice.about
    why = "It expired." if over else "The bot's owner destroyed it."
    text = f"{why} Its schema, keys and messages are deleted, and its servers' events go to production."
    return discord.Embed(title=f"Sandbox {sandbox.name} is gone", description=text, colour=_GREY)


def _stuck(notice: Notice) -> discord.Embed:
    sandbox, failure = notice.sandbox, notice.failure
    embed = discord.Embed(
        title=f"Sandbox {sandbox.name} can't be removed",
        description=(
            "Its events go to production, but removing what is in it fails again and again. The bot keeps "
            "trying; it tells you this once."
        ),
        colour=_RED,
    )
    if failure is not None:
        embed.add_field(name="Step", value=shown(failure.step))
        embed.add_field(name="Attempts", value=str(failure.attempts))
        embed.add_field(name="Next", value=discord.utils.format_dt(failure.next_attempt_at, "R"))
        embed.add_field(name="Reason", value=shown(failure.reason), inline=False)
    embed.add_field(name="Id", value=f"`{sandbox.id}`", inline=False)
    return embed


def _storage(notice: Notice) -> discord.Embed:
    name, stored, limit = notice.sandbox.name, notice.stored, notice.limit
    store = shown(stored.store) if stored is not None else ""
    amount = "" if stored is None or limit is None else _amount(stored, limit)
    if stored is not None and stored.level is Level.FULL:
        title, colour, text = f"Sandbox {name} is full", _RED, _what_full_means(notice.sandbox, store)
    elif stored is not None and stored.before is Level.FULL:
        title, colour = f"Sandbox {name} has room again", _GREEN
        text = "It may write again." if notice.sandbox.generation else ""
    else:
        title, colour = f"Sandbox {name} is nearly full", _AMBER
        text = "Nothing is refused yet."
    description = f"In {store} it stores {amount}. {text}".strip()
    embed = discord.Embed(title=title, description=description, colour=colour)
    embed.set_footer(text=f"/sandbox status name:{name} shows what it uses.")
    return embed


def _amount(stored: Stored, limit: StorageLimit) -> str:
    size = f"{mebibytes(stored.bytes)} of {mebibytes(limit.bytes)} MiB"
    return size if limit.items is None else f"{size}, and {stored.items:,} of {limit.items:,} keys"


def _what_full_means(sandbox: Sandbox, store: str) -> str:
    again = "Until it stores less than 90 % of that, you can't create another sandbox"
    if not sandbox.generation:
        return f"{again}."
    if store == REDIS:
        return f"{again}, and its login may read and delete there, but not write."
    return (
        f"{again}, and its new sessions there are read-only. To delete something, begin with "
        "`SET default_transaction_read_only = off;`. `TRUNCATE` and `VACUUM FULL` give the room back."
    )
