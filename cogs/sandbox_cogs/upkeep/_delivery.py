"""Sends notices as direct messages.

A notice is marked as sent before it is sent. So a failed notice is not sent again, unless it certainly never
reached Discord. Its nonce comes from what it says and to whom: Discord makes one message of it, also when the
request is repeated, by this process or by one that was started since.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import TYPE_CHECKING

import aiohttp
import discord
import structlog

from sandbox_cogs._answers import is_discords
from sandbox_cogs._core import AnyBot
from sandbox_cogs._owners import owner_ids_of
from sandbox_cogs._requests import answered, nonce_of
from sandbox_core.cleanup import Notice, NoticeKind
from sandbox_core.sharding.registered import TwoPublishers
from sandbox_core.subjects import is_guild_id

from . import _render

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

_log = structlog.get_logger("sandbox.upkeep")

_SEND_WITHIN = 15.0
_BUTTONS_IN = "sandbox_cogs.sandbox"
"""The extension that handles the buttons below a notice."""


async def deliver(bot: AnyBot, core: Core, notice: Notice) -> None:
    """Send the notice to its recipients. Failures of Discord never raise; closed messages are no failure.

    When no connection to Discord was possible, the notice is due again later.
    """
    if notice.kind is NoticeKind.STUCK:
        recipients = sorted(owner_ids_of(bot, core.settings))
    else:
        # The command line may create sandboxes for owners that are no Discord users. User ids and guild
        # ids have the same form.
        recipients = [notice.sandbox.owner] if is_guild_id(notice.sandbox.owner) else []
    reached = [await _send(bot, user_id, notice) for user_id in recipients]
    if reached and not any(reached):
        await core.notices.give_back(notice)


async def deliver_two_publishers(bot: AnyBot, core: Core, notice: TwoPublishers) -> None:
    """Tell the bot's owners that a second process wants to publish; failures of Discord never raise."""
    embed = _render.two_publishers(notice)
    recipients = sorted(owner_ids_of(bot, core.settings))
    facts = {"kind": "two_publishers"}
    identity = (notice.application_id, notice.about)
    reached = [
        await _send_embed(bot, user_id, embed, None, identity=identity, about=facts) for user_id in recipients
    ]
    if reached and not any(reached):
        await core.publisher_notices.give_back(notice)


async def _send(bot: AnyBot, user_id: str, notice: Notice) -> bool:
    """Send the notice. Return False when it certainly never reached Discord."""
    view = _render.buttons(notice) if _BUTTONS_IN in bot.extensions else None
    facts = {"kind": notice.kind.value, "sandbox_id": str(notice.sandbox.id)}
    identity = (notice.sandbox.id, notice.key, notice.about.astimezone(UTC))
    return await _send_embed(bot, user_id, _render.notice(notice), view, identity=identity, about=facts)


async def _send_embed(
    bot: AnyBot,
    user_id: str,
    embed: discord.Embed,
    view: discord.ui.View | None,
    *,
    identity: tuple[object, ...],
    about: dict[str, str],
) -> bool:
    facts = about | {"user_id": user_id}
    nonce = nonce_of("notice", *identity, user_id)

    async def send() -> None:
        user = bot.get_user(int(user_id)) or await bot.fetch_user(int(user_id))
        await user.send(embed=embed, view=view or discord.utils.MISSING, nonce=nonce)

    try:
        async with asyncio.timeout(_SEND_WITHIN):
            await answered(send)
    except (discord.Forbidden, discord.NotFound) as error:
        if not is_discords(error):
            _log.warning("notice_delayed", reason=f"a proxy answered {error.status} for Discord", **facts)
            return False
        _log.info("notice_refused", **facts)
    except aiohttp.ClientConnectorError:
        _log.warning("notice_delayed", reason="Discord can't be reached", **facts)
        return False
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        # It may have arrived. Discord knows its nonce for a few minutes only, and sending twice is worse
        # than not at all.
        _log.warning("notice_lost", reason=type(error).__name__, **facts)
    else:
        _log.info("notice_sent", **facts)
    return True
