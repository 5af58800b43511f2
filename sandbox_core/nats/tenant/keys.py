"""The secrets that the bot and the sandboxes' NATS server share, all made from the operator's key."""

from __future__ import annotations

import base64
from dataclasses import replace

import nkeys
from pydantic import SecretStr

from sandbox_core.addresses import NatsAddress
from sandbox_core.credentials import CredentialsKey

BOT, AUTH, SYSTEM = "bot", "auth", "sys"
"""The users of the bot: it publishes, answers who may log in, and ends connections."""
ROUTE = "route"
"""As whom the servers of a cluster log in to each other."""


class TenantKeys:
    """What is made from `SANDBOX_CREDENTIALS_KEY` for this server; the key can't be computed from it."""

    def __init__(self, key: CredentialsKey) -> None:
        self._key = key
        seed = nkeys.encode_seed(key.secret("nats issuer"), nkeys.PREFIX_BYTE_ACCOUNT)
        self.issuer: nkeys.KeyPair = nkeys.from_seed(bytearray(seed))
        """It signs what may log in; the server knows its public half."""

    @property
    def issuer_public(self) -> str:
        """The issuer's public key: `A…`."""
        return str(bytes(self.issuer.public_key).decode())

    def password(self, user: str) -> str:
        """Return the password of one of the bot's users."""
        return base64.urlsafe_b64encode(self._key.secret(f"nats user {user}")).decode().rstrip("=")

    def address(self, server: NatsAddress, user: str) -> NatsAddress:
        """Return the server's address with the login of one of the bot's users."""
        return replace(
            server,
            user=user,
            password=SecretStr(self.password(user)),
            token=None,
            variable=f"{server.variable} and SANDBOX_CREDENTIALS_KEY",
        )
