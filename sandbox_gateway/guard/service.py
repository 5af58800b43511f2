"""Serves Discord's REST API to the bots of sandboxes: decides, sends on what may be sent, and answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from multidict import CIMultiDict

from sandbox_core.errors import DependencyUnavailable
from sandbox_gateway.calls import CallRecord, Calls
from sandbox_gateway.commands import CommandCall, Commands
from sandbox_gateway.share import ShareUsed
from sandbox_gateway.tenants import Holder, Production, TablesStale
from sandbox_gateway.upstream import OpenAnswer, Upstream, UpstreamAway

from . import bodies, paths, rewrites
from .answers import (
    Refusal,
    invalid_body,
    json_response,
    limited,
    missing_access,
    missing_permissions,
    unauthorized,
    unavailable,
)
from .common import Common
from .deciding import Call, Decider, written
from .ids import JsonValue
from .levels import check_operation
from .metrics import GuardMetrics
from .passing import Passing, ProductionCall, is_own_path
from .paths import is_snowflake
from .places import Places
from .ports import KnownTenants, Seen
from .relaying import relay
from .rules import Matched, Rule, Rules
from .strangers import Strangers

_log = structlog.get_logger("sandbox.client_gateway")

_SENT = ("X-Audit-Log-Reason", "X-RateLimit-Precision", "Accept-Language", "X-Discord-Locale")
"""The headers of a client that Discord gets."""
_PASSED = ("Content-Type", "Retry-After", "Via", "Cache-Control", "Content-Disposition")
"""The headers of Discord's answer that a client gets, with those of its rate limits."""
_LIMITS = "x-ratelimit-"
_LARGEST_CHECKED = 8 * 1024 * 1024


@dataclass(slots=True)
class _Trace:
    """What is told of a call at its end."""

    started: float
    tenant: Holder | None = None
    rule: Rule | None = None


class Guard:
    """Mount `serve` at `/api`, `/api/v9` and `/api/v10`."""

    def __init__(
        self,
        *,
        tenants: KnownTenants,
        upstream: Upstream,
        seen: Seen,
        places: Places,
        commands: Commands,
        calls: Calls,
        metrics: GuardMetrics,
        gateway_url: Callable[[], str],
        passing: Passing | None = None,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`gateway_url` is the address of our own gateway; `clock` is in seconds since the epoch."""
        self._upstream = upstream
        self._commands = commands
        self._calls = calls
        self._metrics = metrics
        self._gateway_url = gateway_url
        self._rules = rules or Rules.load()
        self._clock = clock
        self._common = Common(upstream)
        metrics.records_lost.set_function(lambda: calls.lost)
        self._passing = passing or Passing(upstream, None)
        self._strangers = Strangers()
        self._decider = Decider(tenants, seen, places, self._common)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        trace = _Trace(time.perf_counter())
        refused = ""
        try:
            response = await self._answer(request, trace)
        except Refusal as refusal:
            response, refused = refusal.response(), refusal.reason
        except ShareUsed as used:
            response, refused = limited(used.retry_after, used.reason).response(), used.reason
        except (DependencyUnavailable, TablesStale) as error:
            refused = "control_plane_away" if isinstance(error, DependencyUnavailable) else "tenants_stale"
            response = unavailable(refused).response()
        except UpstreamAway as error:
            refused = "discord_away"
            response = unavailable(refused).response()
            _log.warning("discord_away", problem=str(error))
        self._ended(request, trace, response.status, refused)
        return response

    def _ended(self, request: web.Request, trace: _Trace, status: int, refused: str) -> None:
        seconds = time.perf_counter() - trace.started
        if not isinstance(trace.tenant, Production):
            self._metrics.ended(status, refused, seconds)
        route = "" if trace.rule is None else trace.rule.template.text
        # A client may write anything in place of a method.
        method = request.method if trace.rule is not None else "?"
        if refused:
            whose = None if trace.tenant is None else str(trace.tenant.sandbox_id)
            _log.info(
                "call_refused", reason=refused, method=method, route=route, status=status, sandbox_id=whose
            )
        if trace.tenant is not None:
            record = CallRecord(self._clock(), method, route, status, refused, round(seconds * 1000, 1))
            self._calls.record_call(trace.tenant.sandbox_id, record)

    async def _answer(self, request: web.Request, trace: _Trace) -> web.StreamResponse:
        if is_own_path(request.raw_path):
            return await self._of_production(request, trace)
        # Before the route: Discord tells nobody without a token which there are, and a call has an owner.
        tenant = trace.tenant = await self._decider.tenant_by_token(request)
        if isinstance(tenant, Production):
            return await self._pass(request, trace, authorized=True)
        matched = self._rules.match(request.method, paths.split(request.raw_path))
        rule = trace.rule = matched.rule
        if rule.decision == "answer" and rule.note == "gateway":
            return json_response(200, {"url": self._gateway_url()})
        if tenant is None:
            if not rule.has_own_token:
                raise unauthorized("no_token")
            tenant = trace.tenant = await self._decider.tenant_by_path(matched)
            if isinstance(tenant, Production):
                return await self._pass(request, trace, authorized=False)
        call = Call(matched, tenant)
        if rule.decision == "refuse":
            raise missing_permissions(rule.note, "never")
        check_operation(matched, tenant)
        await self._decider.place(call)
        await self._decider.query(call)
        if rule.decision == "answer":
            return self._own_answer(rule)
        if rule.decision == "common":
            return await self._common_answer(call)
        if rule.decision == "rewrite" and rule.note == "guilds":
            return json_response(200, await rewrites.guilds(self._upstream, call.query, call.tenant))
        return await self._send(request, call)

    async def _of_production(self, request: web.Request, trace: _Trace) -> web.StreamResponse:
        """Answer a call to the path that only production's variables name."""
        holder, authorized = await self._decider.production_by_call(request)
        trace.tenant = holder
        return await self._pass(request, trace, authorized=authorized)

    async def _pass(self, request: web.Request, trace: _Trace, *, authorized: bool) -> web.StreamResponse:
        call = ProductionCall(request, self._rules)
        trace.rule = None if call.matched is None else call.matched.rule
        if call.asks_for_the_gateway and trace.rule is not None:
            if trace.rule.note == "gateway":
                return json_response(200, {"url": self._gateway_url()})
            return self._own_answer(trace.rule)
        if not authorized and not call.has_own_token and "Authorization" not in request.headers:
            raise unauthorized("no_token")
        if authorized:
            return await self._passing.answer(request, call, authorized=True)
        token = call.own_token
        if self._strangers.too_many(token) and not await self._decider.productions_interaction(call.matched):
            raise unavailable("invalid_requests")
        response = await self._passing.answer(request, call, authorized=False)
        self._strangers.answered(token, response.status)
        return response

    def _own_answer(self, rule: Rule) -> web.Response:
        if rule.note == "nothing":
            return json_response(200, [])
        limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        return json_response(200, {"url": self._gateway_url(), "shards": 1, "session_start_limit": limit})

    async def _common_answer(self, call: Call) -> web.StreamResponse:
        answer = await self._common.get(
            call.matched.path, sandbox_id=call.sandbox_id, version=call.matched.target.version
        )
        if answer.status == 401:
            raise _real_token_refused()
        if call.matched.rule.note == "application" and answer.status == 200:
            return json_response(200, rewrites.application(answer.json(), call.tenant))
        return web.Response(status=answer.status, body=answer.body, headers=_passed(answer.headers))

    async def _send(self, request: web.Request, call: Call) -> web.StreamResponse:
        value: JsonValue = None

        async def check(found: JsonValue) -> None:
            nonlocal value
            await self._decider.body(call, found)
            value = found

        outgoing = await bodies.checked(request, check)
        await self._decider.complete(call, value)
        matched = call.matched
        if matched.rule.decision == "commands":
            if outgoing is not None and not isinstance(outgoing.data, bytes):
                raise invalid_body("commands take no form with files", "multipart")
            response = await self._commands.handle(call.tenant, _command_call(call, value))
            if response.status == 401:
                raise _real_token_refused()
            return response
        headers = CIMultiDict({name: request.headers[name] for name in _SENT if name in request.headers})
        if outgoing is not None:
            headers["Content-Type"] = outgoing.content_type
        query = written(call.query)
        if matched.rule.decision == "rewrite":
            query = rewrites.entitlements(call.query, call.tenant)
        try:
            async with self._upstream.open(
                matched.rule.method,
                matched.path,
                sandbox_id=call.sandbox_id,
                query=query,
                headers=headers,
                body=None if outgoing is None else outgoing.data,
                version=matched.target.version,
                authorized=not matched.rule.has_own_token,
                of_all=not matched.rule.has_own_token,
                last_look=lambda: self._decider.still(call),
            ) as answer:
                return await self._pass_on(request, call, answer)
        except UpstreamAway:
            # A form is broken off by us when what comes late in it is refused.
            refusal = None if outgoing is None else outgoing.refused()
            raise refusal or unavailable("discord_away") from None

    async def _pass_on(self, request: web.Request, call: Call, answer: OpenAnswer) -> web.StreamResponse:
        if answer.stopped:
            raise limited(answer.stopped, "stopped")
        if answer.status == 401 and not call.matched.rule.has_own_token:
            raise _real_token_refused()
        headers = _passed(answer.headers)
        if call.matched.rule.decision == "response" and answer.status < 400:
            body = await _bounded(answer)
            _check_answer(call, body)
            return web.Response(status=answer.status, body=body, headers=headers)
        return await relay(request, answer, headers)


def _real_token_refused() -> Refusal:
    """Return the refusal of a call that Discord answered with 401.

    It is about the real token, of which no bot in a sandbox knows anything.
    """
    return unavailable("real_token_refused")


async def _bounded(answer: OpenAnswer) -> bytes:
    body = bytearray()
    async for chunk in answer.chunks():
        body += chunk
        if len(body) > _LARGEST_CHECKED:
            raise unavailable("answer_too_large")
    return bytes(body)


def _check_answer(call: Call, body: bytes) -> None:
    """Raise `Refusal` unless the guild in the answer is the sandbox's, or none need be and is there."""
    note = call.matched.rule.note
    try:
        found: Any = json.loads(body)
    except ValueError:
        raise unavailable("answer_unreadable") from None
    for name in note.removesuffix("?").split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None and note.endswith("?"):
        return
    if not isinstance(found, str) or not is_snowflake(found) or not call.holds(found):
        raise missing_access()


def _passed(headers: Any) -> CIMultiDict[str]:
    passed = CIMultiDict({name: headers[name] for name in _PASSED if name in headers})
    for name, value in headers.items():
        if name.lower().startswith(_LIMITS):
            passed[name] = value
    return passed


def _command_call(call: Call, body: JsonValue) -> CommandCall:
    matched: Matched = call.matched
    return CommandCall(matched.rule.operation, dict(matched.values), call.query, body, matched.target.version)
