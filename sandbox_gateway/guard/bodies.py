"""Reads a request's body, has it checked, and returns what is sent: the checked value, written again.

Three kinds reach Discord: JSON, a form whose `payload_json` is JSON (py-cord's callbacks), and
`multipart/form-data`, whose files are streamed. Anything else is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from . import strict_json
from .answers import JSON_TYPE, Refusal, invalid_body
from .ids import Json, JsonValue
from .multipart import Multipart

Check = Callable[[JsonValue], Awaitable[None]]
"""Raises `Refusal` when the value may not be sent."""

PAYLOAD = "payload_json"
PLAIN_FIELDS = frozenset({"avatar_url", "content", "description", "name", "tags", "tts", "username"})
"""The fields of forms that are no JSON: those of stickers and of simple webhooks. None names a place."""
_LARGEST = 16 * 1024 * 1024
"""Of JSON, which holds images in base64."""
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A body for Discord; `refusal` says why a stream ended before its end."""

    content_type: str
    data: bytes | AsyncIterator[bytes]
    refused: Callable[[], Refusal | None] = lambda: None


def refuse_encoded(request: web.Request) -> None:
    """Raise `Refusal` for a body that can't be read as it comes."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(415, "415: Unsupported Media Type", reason="content_encoding")


async def checked(request: web.Request, check: Check) -> Outgoing | None:
    """Return the body to send, None for none. `check` gets each value before any byte of it is sent."""
    if request.method == "GET" or not request.body_exists:
        return None
    refuse_encoded(request)
    kind = request.content_type.lower()
    if kind == _MULTIPART:
        return await _multipart(request, check)
    data = await _read(request)
    if not data:
        return None
    if (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise invalid_body("it is not in UTF-8", "charset")
    if kind == JSON_TYPE:
        return await _as_json(strict_json.parse(data), check)
    if kind == _FORM:
        return await _form(data, check)
    raise Refusal(415, "415: Unsupported Media Type", reason="content_type")


async def _read(request: web.Request) -> bytes:
    read = bytearray()
    try:
        async for chunk in request.content.iter_any():
            read += chunk
            if len(read) > _LARGEST:
                raise Refusal(413, "Request entity too large", 40005, reason="too_large")
    except web.RequestPayloadError as error:
        raise invalid_body("it can't be read", "payload") from error
    return bytes(read)


async def _as_json(value: JsonValue, check: Check) -> Outgoing:
    await check(value)
    return Outgoing(JSON_TYPE, strict_json.write(value))


async def _form(data: bytes, check: Check) -> Outgoing:
    try:
        pairs = parse_qsl(
            data.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=20,
        )
    except ValueError as error:
        raise invalid_body("it is no form", "form") from error
    fields = dict(pairs)
    if len(fields) != len(pairs) or not fields.keys() <= PLAIN_FIELDS | {PAYLOAD}:
        raise invalid_body("a field of the form can't be used", "form")
    payload = fields.pop(PAYLOAD, None)
    if payload is not None:
        if fields:
            raise invalid_body("beside payload_json the form has other fields", "form")
        return await _as_json(strict_json.parse(payload.encode()), check)
    await check({**fields})
    return Outgoing(_FORM, urlencode(fields).encode())


async def _multipart(request: web.Request, check: Check) -> Outgoing:
    async def payload(data: bytes) -> bytes:
        value = strict_json.parse(data)
        await check(value)
        return strict_json.write(value)

    async def field(name: str, data: bytes) -> bytes:
        try:
            value: Json = {name: data.decode()}
        except UnicodeDecodeError as error:
            raise invalid_body("a field is not in UTF-8", "multipart") from error
        await check(value)
        return data

    form = Multipart(request, payload=payload, field=field, payload_name=PAYLOAD, fields=PLAIN_FIELDS)
    await form.begin()
    return Outgoing(form.content_type, form.stream(), lambda: form.refusal)
