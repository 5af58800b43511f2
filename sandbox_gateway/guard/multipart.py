"""Sends a multipart form on while it comes: files as they are, everything else once it is checked.

Each part is written anew, with a name from a short list. So nothing depends on how others read the client's
own headers. Libraries differ in their order: discord.js sends the files first. The part with the JSON is
checked before any byte of it is sent; when it is refused, the request to Discord is broken off before its
end, and Discord takes no request without one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

from aiohttp import BodyPartReader, MultipartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from .answers import Refusal, invalid_body

_LARGEST_FIELD = 1024 * 1024
_LARGEST = 512 * 1024 * 1024
_MOST_PARTS = 40
_CHUNK = 64 * 1024
_UNREADABLE = (ValueError, AssertionError, HttpProcessingError, web.RequestPayloadError)
"""What aiohttp raises for a form, or a part's headers, that it can't read."""
_FILES = re.compile(r"(?:files\[[0-9]{1,3}\]|file[0-9]{0,3}|target_users_file)\Z")
_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(?:; ?charset=[A-Za-z0-9-]{1,20})?\Z"
)


class Multipart:
    """One form on its way."""

    def __init__(
        self,
        request: web.Request,
        *,
        payload: Callable[[bytes], Awaitable[bytes]],
        field: Callable[[str, bytes], Awaitable[bytes]],
        payload_name: str,
        fields: Collection[str],
    ) -> None:
        """`payload` and `field` return what is sent instead of a part, or raise `Refusal`."""
        self._payload, self._field = payload, field
        self._payload_name, self._fields = payload_name, fields
        try:
            self._reader = MultipartReader(request.headers, request.content)
        except ValueError as error:
            raise invalid_body("it is no form", "multipart") from error
        self._boundary = secrets.token_hex(16)
        self._seen: set[str] = set()
        self._size = 0
        self._first: BodyPartReader | None = None
        self._begun: bytes = b""
        self.refusal: Refusal | None = None
        """Why the stream ended before its end."""

    @property
    def content_type(self) -> str:
        """The content type of what is sent."""
        return f"multipart/form-data; boundary={self._boundary}"

    async def begin(self) -> None:
        """Look at the first part. Most libraries send the JSON first, so that most refusals are here."""
        self._first = await self._next()
        if self._first is None:
            raise invalid_body("the form is empty", "multipart")
        if not _FILES.match(self._name(self._first)):
            self._begun = await self._whole(self._first)
            self._first = None

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield what is sent."""
        try:
            if self._begun:
                yield self._begun
            part = self._first or await self._next()
            while part is not None:
                if _FILES.match(self._name(part)):
                    async for chunk in self._file(part):
                        yield chunk
                else:
                    yield await self._whole(part)
                part = await self._next()
        except Refusal as refusal:
            self.refusal = refusal
            raise
        yield f"--{self._boundary}--\r\n".encode()

    async def _next(self) -> BodyPartReader | None:
        try:
            part = await self._reader.next()
        except _UNREADABLE as error:
            raise invalid_body("it is no form", "multipart") from error
        if part is None:
            return None
        if not isinstance(part, BodyPartReader):
            raise invalid_body("a form in a form", "multipart")
        for header in (hdrs.CONTENT_ENCODING, hdrs.CONTENT_TRANSFER_ENCODING):
            if part.headers.get(header, "binary").lower() not in {"binary", "8bit", "7bit", "identity"}:
                raise invalid_body("a part is encoded", "multipart")
        if len(self._seen) >= _MOST_PARTS:
            raise invalid_body("it has too many parts", "multipart")
        name = self._name(part)
        if name in self._seen:
            raise invalid_body("two parts have one name", "multipart")
        self._seen.add(name)
        return part

    def _name(self, part: BodyPartReader) -> str:
        name = part.name or ""
        if name != self._payload_name and name not in self._fields and not _FILES.match(name):
            raise invalid_body("a part has a name that can't be used", "multipart")
        return name

    async def _whole(self, part: BodyPartReader) -> bytes:
        name = self._name(part)
        data = bytearray()
        async for chunk in _chunks(part):
            data += chunk
            if len(data) > _LARGEST_FIELD:
                raise Refusal(413, "Request entity too large", 40005, reason="too_large")
        if name == self._payload_name:
            sent, more = await self._payload(bytes(data)), "Content-Type: application/json\r\n"
        else:
            sent, more = await self._field(name, bytes(data)), ""
        head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n{more}\r\n'
        return head.encode() + sent + b"\r\n"

    async def _file(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        name, filename = self._name(part), _quoted(part.filename or "file")
        kind = part.headers.get(hdrs.CONTENT_TYPE, "")
        more = f"Content-Type: {kind}\r\n" if _TYPE.match(kind) else ""
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        yield f"--{self._boundary}\r\n{disposition}{more}\r\n".encode()
        async for chunk in _chunks(part):
            self._size += len(chunk)
            if self._size > _LARGEST:
                raise Refusal(413, "Request entity too large", 40005, reason="too_large")
            yield chunk
        yield b"\r\n"


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while not part.at_eof():
        try:
            chunk = await part.read_chunk(_CHUNK)
        except _UNREADABLE as error:
            raise invalid_body("it is no form", "multipart") from error
        if chunk:
            yield bytes(chunk)


def _quoted(filename: str) -> str:
    """Return a file's name as browsers write it into a form."""
    printable = "".join("_" if ord(each) < 32 or 0xD800 <= ord(each) < 0xE000 else each for each in filename)
    return printable.replace("\\", "_").replace('"', "%22")[:300]
