"""The signed tokens in which a NATS server asks who may log in, and gets its answer.

https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nkeys

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_AUDIENCE = "nats-authorization-request"


class UnreadableRequest(ValueError):
    """What came is no request of a NATS server."""


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """A server asks whether a client may log in."""

    server_id: str
    user_nkey: str
    """The server's name for this one connection."""
    user: str
    password: str
    host: str
    """The client's address."""

    def __repr__(self) -> str:
        return f"LoginRequest(user={self.user!r}, host={self.host!r})"


def read_request(token: bytes) -> LoginRequest:
    """Read a server's request. Raises `UnreadableRequest`.

    Its signature is by a key that only the request itself names. The account in which it comes says whom it
    is from: nobody but servers and the bot is in that.
    """
    try:
        claims = json.loads(_unpadded(token.split(b".")[1]))
        about = claims["nats"]
        server_id = str(about["server_id"]["id"])
        if claims["aud"] != _AUDIENCE or claims["iss"] != server_id:
            raise UnreadableRequest("it is another kind of token")
        options = about["connect_opts"]
        return LoginRequest(
            server_id=server_id,
            user_nkey=str(about["user_nkey"]),
            user=str(options.get("user", "")),
            password=str(options.get("pass", "")),
            host=str(about["client_info"].get("host", "")),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableRequest(type(error).__name__) from error


def granting(
    issuer: nkeys.KeyPair,
    request: LoginRequest,
    *,
    account: str,
    name: str,
    permissions: Mapping[str, Any],
    at: datetime,
    until: datetime,
) -> bytes:
    """Return the answer that lets the client into the account, at the latest until `until`.

    `name` is what the server shows of the connection.
    """
    user = _signed(
        issuer,
        {
            "sub": request.user_nkey,
            "aud": account,
            "name": name,
            "iat": int(at.timestamp()),
            "exp": int(until.timestamp()),
            "nats": {**permissions, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2},
        },
    )
    return _answer(issuer, request, {"jwt": user.decode()}, at)


def refusing(issuer: nkeys.KeyPair, request: LoginRequest, *, why: str, at: datetime) -> bytes:
    """Return the answer that refuses the client; `why` comes into the server's log."""
    return _answer(issuer, request, {"error": why}, at)


def _answer(issuer: nkeys.KeyPair, request: LoginRequest, said: Mapping[str, Any], at: datetime) -> bytes:
    return _signed(
        issuer,
        {
            "sub": request.user_nkey,
            "aud": request.server_id,
            "iat": int(at.timestamp()),
            "nats": {**said, "type": "authorization_response", "version": 2},
        },
    )


def _signed(issuer: nkeys.KeyPair, claims: Mapping[str, Any]) -> bytes:
    public = bytes(issuer.public_key).decode()
    unnamed = json.dumps({**claims, "iss": public}, separators=(",", ":")).encode()
    jti = base64.b32encode(hashlib.sha256(unnamed).digest()).decode().rstrip("=")
    body = json.dumps({**claims, "iss": public, "jti": jti}, separators=(",", ":")).encode()
    text = _base64(json.dumps(_HEADER, separators=(",", ":")).encode()) + b"." + _base64(body)
    return text + b"." + _base64(issuer.sign(text))


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _unpadded(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
