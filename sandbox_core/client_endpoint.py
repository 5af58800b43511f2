"""The endpoint for unmodified bots (`sandboxctl gateway`): its addresses, and a sandbox's token for it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from uuid import UUID

from .credentials import CredentialsKey
from .models import Sandbox

STORE = "Discord"
"""In place of a store's name in the password that a token ends with."""
PRODUCTION = UUID(int=1)
"""In place of a sandbox's id: production's own unmodified bot. No sandbox gets such an id."""
PRODUCTION_WORD = "production"
"""Stands in the token in place of a sandbox's, and before the path of production's REST."""
NOBODY = "0"
"""The user id in the tokens of a bot whose own token names none, as at a local Discord."""


@dataclass(frozen=True, slots=True)
class ClientEndpoint:
    """Where unmodified bots connect to, and what makes their tokens; `url` has no path."""

    url: str
    bot_user_id: str
    key: CredentialsKey

    def token(self, sandbox: Sandbox, guest: str = "") -> str:
        """Return the sandbox's present token, or this guest's, in three parts as Discord's.

        Libraries read the bot's user id from the first one, or warn where they can't.
        """
        whose = f"{sandbox.short_id}-{guest}" if guest else sandbox.short_id
        return f"{self._user}.sbx-{whose}.{self.key.password(STORE, sandbox, guest)}"

    def production_token(self, generation: int) -> str:
        """Return this generation of production's token, of the same form."""
        return f"{self._user}.{PRODUCTION_WORD}.{self.key.production_password(generation)}"

    @property
    def _user(self) -> str:
        return base64.urlsafe_b64encode(self.bot_user_id.encode()).decode().rstrip("=")

    @property
    def gateway_url(self) -> str:
        """The address of the gateway."""
        return f"ws{self.url.removeprefix('http')}/"

    def variables(self, sandbox: Sandbox, guest: str = "") -> dict[str, str]:
        """Return the variables for an unmodified bot of the sandbox, with its token or this guest's."""
        return {
            "DISCORD_TOKEN": self.token(sandbox, guest),
            "DISCORD_API_URL": f"{self.url}/api/v10",
            "DISCORD_GATEWAY_URL": self.gateway_url,
        }

    def production_variables(self, generation: int) -> dict[str, str]:
        """Return the variables for production's own unmodified bot, with its token.

        The path of its REST tells its calls without a token, of webhooks, from those of sandboxes' bots.
        """
        return {
            "DISCORD_TOKEN": self.production_token(generation),
            "DISCORD_API_URL": f"{self.url}/{PRODUCTION_WORD}/api/v10",
            "DISCORD_GATEWAY_URL": self.gateway_url,
        }


OF_PRODUCTION = (
    "DISCORD_TOKEN is the one that `sandboxctl production-token` prints, and not the bot's. "
    "Run this in another shell, or unset it."
)


def is_productions(token: str) -> bool:
    """Return whether it has the form of production's token for the endpoint."""
    return token.split(".")[1:2] == [PRODUCTION_WORD]


def user_id_in(token: str) -> str:
    """Return the bot's user id, which a token of Discord begins with; `NOBODY` when it does not."""
    first = token.partition(".")[0]
    try:
        text = base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return NOBODY
    return text if text.isdigit() else NOBODY
