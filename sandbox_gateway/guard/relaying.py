"""Hands Discord's answer on to the client."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from sandbox_gateway.upstream import OpenAnswer, UpstreamAway

_AT_ONCE = 256 * 1024
"""An answer of so many bytes is read first, and sent as one."""


async def relay(request: web.Request, answer: OpenAnswer, headers: CIMultiDict[str]) -> web.StreamResponse:
    """Answer with the status and the body of Discord's answer, and these headers."""
    length = answer.length
    if answer.status == 204 or (length is not None and length <= _AT_ONCE):
        return web.Response(status=answer.status, body=await answer.body(), headers=headers)
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = length
    await response.prepare(request)
    try:
        async for chunk in answer.chunks():
            await response.write(chunk)
        await response.write_eof()
    except UpstreamAway:
        # Half an answer can't become another one: the connection's end says that it is none.
        if request.transport is not None:
            request.transport.abort()
    return response
