"""The `/_sim` endpoint, which controls a simulator from another process."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from discord_sim.errors import SimError
from discord_sim.jsontypes import Json
from discord_sim.results import InteractionResult
from discord_sim.sim import DiscordSim
from discord_sim.world import SimChannel, SimGuild, SimUser

_FOREIGN = "only this machine's programs and pages of the simulator itself may control it"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class ControlApi:
    """Takes and answers JSON; a `SimError` becomes status 400 with its name.

    The simulator listens only on the loopback interface, and this endpoint exists only on request.
    """

    def __init__(self, sim: DiscordSim) -> None:
        self._sim = sim
        self._results: dict[int, InteractionResult] = {}

    async def serve(self, request: web.Request) -> web.Response:
        """Answer one control request. One that a web page of another origin sends is refused."""
        if not _is_local(request):
            return web.json_response({"error": _FOREIGN}, status=403)
        name = f"{request.method} {request.path.removeprefix('/_sim/')}"
        handler = {
            "GET state": self._state,
            "POST flood": self._flood,
            "POST emit": self._emit,
            "POST slash": self._slash,
            "POST click": self._click,
            "POST dm": self._dm,
            "POST fault": self._fault,
        }.get(name)
        if handler is None:
            return web.json_response({"error": f"unknown control request {name!r}"}, status=404)
        try:
            text = await request.text()
            return web.json_response(await handler(json.loads(text) if text else {}))
        except (SimError, KeyError, ValueError, TypeError) as error:
            problem = {"error": type(error).__name__, "message": str(error)}
            return web.json_response(problem, status=400)

    async def _state(self, body: Json) -> Json:
        sim = self._sim
        return {
            **ready_info(sim),
            "sessions": [
                {
                    "session_id": s.session_id,
                    "shard": s.shard,
                    "shard_count": s.shard_count,
                    "sequence": s.sequence,
                    "sent": s.sent_count,
                    "connected": s.connected,
                    "alive": s.alive,
                    "resumes": s.resume_count,
                    "queued": 0 if s.connection is None else s.connection.queued,
                    "heartbeat_sequence": s.last_heartbeat_sequence,
                    "last_client_close": s.last_client_close,
                }
                for s in sim.sessions
            ],
            "identifies": len(sim.identifies),
            "identifies_too_soon": sum(1 for i in sim.identifies if i.too_soon),
            "resumes": len(sim.resumes),
            "resumes_refused": sum(1 for r in sim.resumes if r.replayed is None),
            "requests": len(sim.requests),
            "unknown_requests": [f"{r.method} {r.path}" for r in sim.unknown_requests],
        }

    async def _flood(self, body: Json) -> Json:
        sim = self._sim
        ids = body.get("guilds")
        report = await sim.flood(
            int(body["count"]),
            guilds=None if ids is None else [self._guild(i) for i in ids],
            rate=body.get("rate"),
            payload_bytes=int(body.get("payload_bytes", 1300)),
            hold_disconnected=body.get("hold_disconnected"),
        )
        return {
            "sent": report.sent,
            "frames": report.frames,
            "seconds": report.seconds,
            "per_second": report.per_second,
            "by_guild": {str(k): v for k, v in report.by_guild.items()},
            "sequences": report.sequences,
        }

    async def _emit(self, body: Json) -> Json:
        guild_id = body.get("guild_id")
        frames = self._sim.emit(body["type"], body["d"], guild_id=None if guild_id is None else int(guild_id))
        return {
            "frames": [
                {"session_id": f.session_id, "shard": f.shard, "seq": f.seq, "raw": f.raw.decode()}
                for f in frames
            ]
        }

    async def _slash(self, body: Json) -> Json:
        result = await self._sim.slash(
            self._user(body["user"]),
            self._channel(body),
            body["path"],
            timeout=float(body.get("timeout", 5.0)),
            values=body.get("options") or {},
        )
        return await self._shown(result, body)

    async def _click(self, body: Json) -> Json:
        result = await self._sim.click(
            self._results[int(body["interaction_id"])],
            self._user(body["user"]),
            label=body.get("label"),
            custom_id=body.get("custom_id"),
            timeout=float(body.get("timeout", 5.0)),
        )
        return await self._shown(result, body)

    async def _dm(self, body: Json) -> Json:
        replies = await self._sim.dm(
            self._user(body["user"]), body["text"], timeout=float(body.get("timeout", 5.0))
        )
        return {"replies": [{"id": str(m.id), "text": m.text} for m in replies]}

    async def _fault(self, body: Json) -> Json:
        sim, kind, shard = self._sim, body["kind"], body.get("shard")
        on = bool(body.get("on", True))
        if kind == "reconnect":
            sim.reconnect(shard)
        elif kind == "invalidate":
            sim.invalidate(bool(body["resumable"]), shard)
        elif kind == "close":
            sim.close(int(body["code"]), shard)
        elif kind == "drop":
            sim.drop(shard)
        elif kind == "garble":
            sim.garble(shard)
        elif kind == "freeze_acks":
            sim.freeze_acks(on, shard)
        elif kind == "half_open":
            sim.half_open(on, shard)
        elif kind == "refuse_resume_url":
            sim.refuse_resume_url(on, how=body.get("how", "drop"))
        else:
            raise ValueError(f"unknown fault {kind!r}")
        return {"done": kind}

    async def _shown(self, result: InteractionResult, body: Json) -> Json:
        texts = body.get("until")
        if texts:
            # The first answer may only say that the work runs; a later edit has the result.
            await result.wait_until(
                lambda r: any(text in r.text for text in texts), float(body.get("timeout", 5.0))
            )
        self._results[result.interaction.id] = result
        return {
            "interaction_id": str(result.interaction.id),
            "text": result.text,
            "content": result.content,
            "embeds": result.embeds,
            "ephemeral": result.ephemeral,
            "deferred": result.deferred,
            "buttons": [b.get("label") or b.get("custom_id") for b in result.buttons],
            "files": [{"filename": f.filename, "size": len(f.content)} for f in result.files],
            "message_id": None if result.message_id is None else str(result.message_id),
            "responded_in_seconds": result.responded_in_seconds,
        }

    def _user(self, name: Any) -> SimUser:
        for user in self._sim.world.users.values():
            if str(name) in (user.name, str(user.id)):
                return user
        raise ValueError(f"no user {name!r}")

    def _guild(self, wanted: Any) -> SimGuild:
        for guild in self._sim.world.guilds.values():
            if str(wanted) in (guild.name, str(guild.id)):
                return guild
        raise ValueError(f"no guild {wanted!r}")

    def _channel(self, body: Json) -> SimChannel:
        if "channel" in body:
            found = self._sim.world.channels.get(int(body["channel"]))
            if found is None:
                raise ValueError(f"no channel {body['channel']!r}")
            return found
        return self._guild(body["guild"]).default_channel


def _is_local(request: web.Request) -> bool:
    """Whether no browser sends it for a page from elsewhere.

    A browser names the page's origin in Origin. A page whose host name was pointed at this machine meanwhile
    has the same origin, but its own name in Host.
    """
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{host}":
        return False
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return False
    return urlsplit(f"//{host}").hostname in _LOOPBACK


def ready_info(sim: DiscordSim) -> Json:
    """Return the simulator's addresses and its users, guilds and channels."""
    return {
        "port": sim.port,
        "api_url": sim.api_url,
        "gateway_url": sim.gateway_url,
        "control_url": f"http://127.0.0.1:{sim.port}/_sim",
        "application_id": str(sim.application_id),
        "owner": {"id": str(sim.owner.id), "name": sim.owner.name},
        "users": {u.name: str(u.id) for u in sim.world.users.values()},
        "guilds": [
            {"id": str(g.id), "name": g.name, "channel_id": str(g.default_channel.id)}
            for g in sim.world.guilds.values()
        ],
    }
