"""A client of PostgreSQL that begins to log in, and goes on when it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import struct
from urllib.parse import unquote, urlsplit

_PROTOCOL = 196608
_NONCE = "slowly"


class SlowLogin:
    """One login with SCRAM in two steps.

    https://www.postgresql.org/docs/current/sasl-authentication.html
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._server_first = ""

    async def begin(self) -> None:
        """Connect, and have the server read the verifier."""
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        words = ("user", self._url.username or "", "database", self._url.path[1:])
        body = struct.pack("!i", _PROTOCOL) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
        self._writer.write(struct.pack("!i", len(body) + 4) + body)
        await self._message()
        first = f"n,,n=,r={_NONCE}".encode()
        self._send(b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        self._server_first = (await self._message())[4:].decode()

    async def finish(self) -> None:
        """Prove the password, and wait until the session stands."""
        fields = dict(part.split("=", 1) for part in self._server_first.split(","))
        password = unquote(self._url.password or "").encode()
        salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={fields['r']}"
        signed = f"n=,r={_NONCE},{self._server_first},{without_proof}"
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed.encode(), "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._send(f"{without_proof},p={base64.b64encode(proof).decode()}".encode())
        while await self._reader.readexactly(1) != b"Z":
            (length,) = struct.unpack("!i", await self._reader.readexactly(4))
            await self._reader.readexactly(length - 4)
        await self._reader.readexactly(5)

    async def ended(self) -> bytes:
        """Everything that the server still says until it ends the session."""
        said = await self._reader.read(-1)
        self._writer.close()
        return said

    async def _message(self) -> bytes:
        kind = await self._reader.readexactly(1)
        (length,) = struct.unpack("!i", await self._reader.readexactly(4))
        body = await self._reader.readexactly(length - 4)
        assert kind == b"R", body
        return body

    def _send(self, body: bytes) -> None:
        self._writer.write(b"p" + struct.pack("!i", len(body) + 4) + body)
