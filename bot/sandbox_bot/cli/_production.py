"""Production's own unmodified bot: who may act for it, and its environment."""

from __future__ import annotations

from contextlib import suppress

from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.production import MOST_SERVERS, ProductionAccess, ProductionToken
from sandbox_core.settings import TAKES, Settings, SettingsError

from ..discord_rest import TokenError, discord_rest
from . import _caller as caller
from ._session import opened

_PAGE = 200


def token_of(core: Core) -> ProductionToken:
    """Return what makes the token. Raises `SettingsError` without the key for it."""
    endpoint = core.settings.client_endpoint
    if endpoint is None:
        name = "SANDBOX_CREDENTIALS_KEY"
        raise SettingsError([f"{name} is not set: it takes {TAKES[name]}."])
    return ProductionToken(core.pool, endpoint)


async def access(owner: str | None, *, rotate: bool = False) -> tuple[ProductionAccess, str]:
    """Return the variables for production's bot, and a sentence on what will refuse it, or nothing."""
    async with opened() as core:
        actor = caller.actor(owner, core.settings)
        token = token_of(core)
        found = await (token.rotate(actor) if rotate else token.show(actor))
        return found, await too_many_servers(core.settings)


async def too_many_servers(settings: Settings) -> str:
    """Return a sentence when the bot is in more servers than the endpoint serves, or nothing."""
    # Without Discord's answer nothing is known, and the endpoint says it later.
    with suppress(DependencyUnavailable, TokenError):
        async with discord_rest(settings) as discord:
            found = await discord.get(f"/users/@me/guilds?limit={_PAGE}") or []
        if len(found) > MOST_SERVERS:
            many = f"{_PAGE} or more" if len(found) == _PAGE else str(len(found))
            return (
                f"The bot is in {many} servers; {MOST_SERVERS} are the most for production at the endpoint: "
                "it will end the bot's connection with 4011."
            )
    return ""
