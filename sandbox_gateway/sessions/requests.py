"""What clients ask for over the gateway: members, sounds; and voice, which there is not."""

from __future__ import annotations

import msgspec
import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.subjects import is_guild_id

from . import intents
from .frames import with_body
from .protocol import Op, RequestMembers, RequestSounds
from .service import Service
from .session import Session

_log = structlog.get_logger("sandbox.client_gateway")

MEMBERS_EVERY = 30.0
"""Seconds between two requests for all members of one server (Discord's change log, "Request Guild Members").
"""


async def members(service: Service, session: Session, asked: RequestMembers) -> None:
    """Answer op 8 with the members that were asked for, in one or more events."""
    guild_id = str(asked.guild_id)
    if not is_guild_id(guild_id) or guild_id not in session.tenant.guild_ids:
        return
    everybody = asked.user_ids is None and not asked.query
    if everybody and not session.identity.intents & intents.MEMBERS:
        _log.info("client_members_refused", guild_id=guild_id)
        return
    if everybody and not asked.limit and (wait := session.members_wait(guild_id, MEMBERS_EVERY)):
        meta = {"guild_id": guild_id, **({} if asked.nonce is None else {"nonce": asked.nonce})}
        limited = {"opcode": int(Op.REQUEST_MEMBERS), "retry_after": round(wait, 3), "meta": meta}
        await session.answer(with_body("RATE_LIMITED", msgspec.json.encode(limited)))
        return
    try:
        chunks = await service.snapshots.members(session.tenant, asked)
    except DependencyUnavailable as error:
        _log.warning("client_members_not_read", guild_id=guild_id, reason=error.reason)
        return
    for chunk in chunks:
        # It may have been given back meanwhile.
        if guild_id in session.tenant.guild_ids:
            await session.answer(with_body("GUILD_MEMBERS_CHUNK", chunk))


async def sounds(service: Service, session: Session, asked: RequestSounds) -> None:
    """Answer op 31 with an event for each of the sandbox's servers that was asked for."""
    for guild_id in dict.fromkeys(map(str, asked.guild_ids)):
        if guild_id not in session.tenant.guild_ids:
            continue
        try:
            found = await service.snapshots.sounds(session.tenant, guild_id)
        except DependencyUnavailable as error:
            _log.warning("client_sounds_not_read", guild_id=guild_id, reason=error.reason)
            continue
        if guild_id in session.tenant.guild_ids:
            await session.answer(with_body("SOUNDBOARD_SOUNDS", found))


def refuse_voice(session: Session) -> None:
    """Op 4 is not passed on: the connection that has the bot's voice is not the client's."""
    _log.info("client_voice_refused", sandbox_id=str(session.tenant.sandbox_id))
    session.report("voice_refused", reason="there is no voice here")
