"""Reads the tokens of unmodified bots: `base64url(bot user id).sbx-{short id}.{43 characters}`.

A colleague's has `sbx-{short id}-{login}` in the middle, production's the word `production`.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from sandbox_core.client_endpoint import PRODUCTION_WORD, STORE
from sandbox_core.credentials import CredentialsKey
from sandbox_core.models import Sandbox
from sandbox_core.postgres.production import TokenRow

_TOKEN = re.compile(
    rf"[A-Za-z0-9_-]{{2,30}}\.(?:sbx-([0-9a-f]{{8}})(?:-([0-9a-f]{{8}}))?|{PRODUCTION_WORD})\.([A-Za-z0-9_-]{{43}})\Z"
)
_PREFIX = "Bot "


@dataclass(frozen=True, slots=True, repr=False)
class PresentedToken:
    """What a client has sent as its token."""

    short_id: str | None
    """The sandbox's; None: production's."""
    guest: str
    """Whose of the sandbox's guests; "" for the sandbox's own."""
    secret: str

    def is_of(self, sandbox: Sandbox, key: CredentialsKey) -> bool:
        """Return whether it is the present token of the sandbox or its guest, in constant time."""
        if sandbox.generation and not key.made(sandbox):
            return False
        if self.guest and self.guest not in sandbox.guests:
            return False
        return hmac.compare_digest(self.secret, key.password(STORE, sandbox, self.guest))

    def is_of_production(self, row: TokenRow, key: CredentialsKey) -> bool:
        """Return whether it is production's present token, in constant time."""
        if not is_valid(row, key):
            return False
        return hmac.compare_digest(self.secret, key.production_password(row.generation))


def read(token: str) -> PresentedToken | None:
    """Read a token, with or without `Bot ` before it: some libraries send that to the gateway, too.

    None when it can't be one of ours.
    """
    match = _TOKEN.match(token.removeprefix(_PREFIX))
    return None if match is None else PresentedToken(match[1], match[2] or "", match[3])


def is_valid(row: TokenRow, key: CredentialsKey) -> bool:
    """Return whether production's last token can be used: not revoked, and made with this key."""
    return row.valid and row.key_id == key.fingerprint
