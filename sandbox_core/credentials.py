"""Makes the passwords of sandboxes' own credentials from the operator's key; none is stored anywhere.

A password is an HMAC of the store, the sandbox and the generation of its credentials. So `connect` can
show it again and again, and a rotation only counts the generation up. The servers have verifiers and hashes,
from which no password can be computed: it has 256 random-looking bits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from pydantic import SecretStr

from .models import Sandbox

LEAST_KEY = 32
"""The fewest characters of a key."""
_CONTEXT = "discord-server-sandboxes credentials 1"
_ITERATIONS = 4096
"""PostgreSQL's own number. More would only slow every login: there is nothing to guess."""


class CredentialsKey:
    """The operator's key, `SANDBOX_CREDENTIALS_KEY`."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"CredentialsKey({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """Tells keys apart, and does not tell the key: it may be stored and shown."""
        return self._hmac("fingerprint").hex()[:12]

    def password(self, store: str, sandbox: Sandbox, guest: str = "") -> str:
        """Return the password of the sandbox's present generation: 43 of `A-Z a-z 0-9 - _`.

        With `guest`, the one for this colleague's login; see `Share.login`.
        """
        whose = ("guest password", guest) if guest else ("password",)
        digest = self._hmac(*whose, store, str(sandbox.id), str(sandbox.generation))
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def production_password(self, generation: int) -> str:
        """Return the password of this generation of production's token, of the same form."""
        digest = self._hmac("production", str(generation))
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def secret(self, purpose: str) -> bytes:
        """Return 32 bytes for this purpose, always the same ones."""
        return self._hmac("secret", purpose)

    def made(self, sandbox: Sandbox) -> bool:
        """Return whether the sandbox has credentials, and they were made with this key."""
        return sandbox.generation > 0 and sandbox.key_id == self.fingerprint

    def _hmac(self, *words: str) -> bytes:
        text = "\n".join((_CONTEXT, *words))
        return hmac.digest(self._key.get_secret_value().encode(), text.encode(), "sha256")


def scram_verifier(password: str) -> str:
    """Return what PostgreSQL stores of the password; made here, so that its log never has the password.

    https://www.postgresql.org/docs/current/catalog-pg-authid.html and RFC 5802
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt_text}${stored_text}:{server_text}"


def redis_hash(password: str) -> str:
    """Return what Redis, and the table of NATS' slots, store of the password."""
    return hashlib.sha256(password.encode()).hexdigest()
