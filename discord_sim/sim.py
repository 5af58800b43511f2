"""The simulator's public class, `DiscordSim`."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from discord_sim.errors import SimTimeout
from discord_sim.flood import Flood, FloodReport
from discord_sim.frames import Frame, Payload
from discord_sim.gateway import IdentifyRecord, ResumeRecord
from discord_sim.jsontypes import Json
from discord_sim.rest.routing import RecordedRequest
from discord_sim.results import InteractionResult
from discord_sim.server import SimServer
from discord_sim.session import GatewaySession
from discord_sim.world import SimChannel, SimGuild, SimMessage, SimUser


class DiscordSim(SimServer):
    """A local Discord for one bot: REST and gateway on one loopback port.

    Use it as an async context manager; everything runs in the current event loop. Give the bot `api_url` and
    `gateway_url`. `SimServer` documents the arguments.
    """

    # -- the world ---------------------------------------------------------

    @property
    def application_id(self) -> int:
        """Id of the application and of its bot user."""
        return self.world.application_id

    @property
    def bot_user(self) -> SimUser:
        """The bot's account."""
        return self.world.bot

    @property
    def owner(self) -> SimUser:
        """The account that owns the application."""
        return self.world.owner

    def add_user(self, name: str, id: int | None = None) -> SimUser:  # noqa: A002
        """Add an account."""
        return self.world.add_user(name, id=id)

    def add_guild(
        self,
        name: str,
        id: int | None = None,  # noqa: A002
        owner: SimUser | None = None,
        *,
        with_bot: bool = True,
    ) -> SimGuild:
        """Add a guild with @everyone, one text channel and the bot in it."""
        return self.world.add_guild(name, id=id, owner=owner, with_bot=with_bot)

    # -- events ------------------------------------------------------------

    def emit(self, type: str, d: Json, *, guild_id: int | None = None) -> list[Frame]:  # noqa: A002
        """Dispatch the event `type` with exactly this `d`.

        `guild_id` only chooses the shard; by default it comes from `d`, and without one the event goes to
        shard 0. Return one frame for each session of that shard, connected or resumable.
        """
        where = _guild_of(type, d) if guild_id is None else guild_id
        return self._send(type, d, where)

    def emit_raw(self, body: bytes, type: str, guild_id: int | None = None) -> list[Frame]:  # noqa: A002
        """Dispatch an event whose `d` is this JSON text, byte for byte."""
        return self.hub.dispatch(Payload(type, guild_id, body))

    def message(
        self,
        guild: SimGuild,
        channel: SimChannel | None = None,
        author: SimUser | None = None,
        content: str = "hello",
        **extra: Any,
    ) -> list[Frame]:
        """Write in a guild as a user; `extra` is merged into the event's `d`."""
        message = self.actors.say(guild, channel or guild.default_channel, author or guild.owner, content)
        return self._send("MESSAGE_CREATE", {**message.event(), **extra}, guild.id)

    async def flood(
        self,
        count: int,
        *,
        guilds: Sequence[SimGuild] | None = None,
        rate: float | None = None,
        payload_bytes: int = 1300,
        hold_disconnected: bool | None = None,
    ) -> FloodReport:
        """Send many prepared MESSAGE_CREATE events, to one guild after the other.

        - `count`: the number of events
        - `guilds`: by default all guilds of the bot
        - `rate`: events per second; None: as fast as clients read
        - `payload_bytes`: the approximate size of a frame's JSON text
        - `hold_disconnected`: wait while a resumable session is disconnected instead of filling its replay
          buffer; by default only without a rate

        Each event has its own `id`, and as `nonce` its due time in nanoseconds since the Unix epoch. Raises
        `SimNotConnected` when there is no session.
        """
        chosen = list(self.world.bot_guilds()) if guilds is None else list(guilds)
        hold = rate is None if hold_disconnected is None else hold_disconnected
        flood = Flood(self.world, self.gateway, guilds=chosen, payload_bytes=payload_bytes, hold=hold)
        return await flood.run(count, rate)

    # -- people ------------------------------------------------------------

    async def slash(
        self,
        user: SimUser,
        channel: SimChannel,
        path: str,
        *,
        timeout: float = 30.0,
        wait: bool = True,
        values: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> InteractionResult:
        """Use a slash command as a person would.

        - `channel`: a guild's channel or a direct message channel
        - `path`: for example "sandbox create"
        - `timeout`: seconds to wait for the answer
        - `wait`: wait for the visible answer, not only for the deferral
        - `values`: options whose names are no Python identifiers, or collide
        - `options`: options by name; `_` may replace `-`

        Raises `SimUnknownCommand` when the bot has not synced it there, `SimBadOption` for an option that
        does not fit, `SimForbidden` when Discord would not offer it to this user, `SimTimeout` without an
        answer in time, and `SimNotConnected` when no session would receive it.
        """
        return await self.actors.slash(
            user, channel, path, {**(values or {}), **options}, timeout=timeout, wait=wait
        )

    async def autocomplete(
        self,
        user: SimUser,
        channel: SimChannel,
        path: str,
        *,
        focused: str,
        value: Any = "",
        timeout: float = 30.0,
        **other: Any,
    ) -> list[tuple[str, Any]]:
        """Type `value` into an option. Return the offered choices as (name, value)."""
        return await self.actors.autocomplete(
            user, channel, path, focused=focused, value=value, others=other, timeout=timeout
        )

    async def click(
        self,
        target: InteractionResult | SimMessage,
        user: SimUser,
        *,
        label: str | None = None,
        custom_id: str | None = None,
        timeout: float = 30.0,
        wait: bool = True,
    ) -> InteractionResult:
        """Press a button, named by label or custom id, or the only button.

        A click that is only acknowledged returns after `timeout`, or with `wait=False` at once.
        """
        return await self.actors.click(
            target, user, label=label, custom_id=custom_id, timeout=timeout, wait=wait
        )

    async def select(
        self,
        target: InteractionResult | SimMessage,
        user: SimUser,
        values: Sequence[Any],
        *,
        custom_id: str | None = None,
        timeout: float = 30.0,
        wait: bool = True,
    ) -> InteractionResult:
        """Choose values (or labels, or entities) in a select menu."""
        return await self.actors.select(target, user, values, custom_id=custom_id, timeout=timeout, wait=wait)

    async def submit_modal(
        self,
        opened: InteractionResult,
        user: SimUser,
        values: Mapping[str, Any] | None = None,
        *,
        timeout: float = 30.0,
        wait: bool = True,
    ) -> InteractionResult:
        """Submit the form that `opened` showed; values are by custom id."""
        return await self.actors.submit_modal(opened, user, values or {}, timeout=timeout, wait=wait)

    async def dm(
        self, user: SimUser, text: str, *, timeout: float = 30.0, count: int = 1
    ) -> list[SimMessage]:
        """Write to the bot. Return its replies after `count` of them or after `timeout` seconds."""
        return await self.actors.dm(user, text, timeout=timeout, count=count)

    # -- faults, by the names tests use -------------------------------------

    def reconnect(self, shard: int | None = None) -> Awaitable[int]:
        """Send op 7; awaiting it waits until the connections have ended."""
        return self.faults.reconnect(shard)

    def invalidate(self, resumable: bool, shard: int | None = None) -> Awaitable[int]:
        """Send op 9; awaiting it waits until the connections have ended."""
        return self.faults.invalidate(resumable=resumable, shard=shard)

    def close(self, code: int, shard: int | None = None) -> Awaitable[int]:
        """Close with a code; awaiting it waits until the connections have ended."""
        return self.faults.close(code, shard)

    def drop(self, shard: int | None = None) -> Awaitable[int]:
        """Reset TCP; awaiting it waits until the connections have ended."""
        return self.faults.drop(shard)

    def garble(self, shard: int | None = None) -> Awaitable[int]:
        """Send data that can't be decompressed; awaiting it waits until the connections have ended."""
        return self.faults.garble(shard)

    def freeze_acks(self, on: bool = True, shard: int | None = None) -> None:
        """Stop (or resume) acknowledging heartbeats."""
        self.faults.freeze_acks(on, shard)

    def half_open(self, on: bool = True, shard: int | None = None) -> None:
        """Keep TCP up, but send and answer nothing."""
        self.faults.half_open(on, shard)

    def refuse_resume_url(self, on: bool = True, *, how: str = "drop") -> None:
        """Break the resume URL; the normal URL still works."""
        self.faults.refuse_resume_url(on, how=how)

    def show_page(self, status: int | None, retry_after: str = "0", path: str = "") -> None:
        """Answer matching REST requests with a proxy's HTML page, as Cloudflare does; None ends it."""
        self.rest.page = None if status is None else (re.compile(path), status, retry_after)

    def fail_next(self, method: str, path: str, status: int = 500, times: int = 1) -> None:
        """Answer the next matching REST requests with an error; `path` is a pattern."""
        self.rest.failures.extend([(method, re.compile(path), status)] * times)

    def lose_next(self, method: str, path: str, *, drop: bool = False) -> None:
        """Do what the next matching REST request asks for, and answer 502, as a proxy may.

        With `drop` the connection ends without an answer.
        """
        self.rest.lost.append((method, re.compile(path), drop))

    # -- observation -------------------------------------------------------

    @property
    def sessions(self) -> list[GatewaySession]:
        """All sessions since the start, oldest first."""
        return self.hub.sessions

    @property
    def identifies(self) -> list[IdentifyRecord]:
        """Every IDENTIFY received."""
        return self.rules.identifies

    @property
    def resumes(self) -> list[ResumeRecord]:
        """Every RESUME received."""
        return self.rules.resumes

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every REST request, with its answer."""
        return self.rest.requests

    @property
    def unknown_requests(self) -> list[RecordedRequest]:
        """REST requests without a route."""
        return self.rest.unknown_requests

    @property
    def record(self) -> bool:
        """Whether dispatched frames are kept; can be set."""
        return self.hub.record

    @record.setter
    def record(self, on: bool) -> None:
        self.hub.record = on

    @property
    def sent(self) -> list[Frame]:
        """The frames dispatched while `record` was on."""
        return self.hub.sent

    async def wait_connected(self, shards: int = 1, timeout: float = 30.0) -> None:
        """Wait until this many different shards are connected. Raises `SimTimeout`."""

        def connected() -> set[int]:
            return {s.shard for s in self.hub.sessions if s.connected}

        if not await self.gateway.changed.wait_for(lambda: len(connected()) >= shards, timeout):
            raise SimTimeout(f"shards connected after {timeout} s: {sorted(connected())}")

    async def wait_for(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait for a condition on sessions, messages or interactions. Raises `SimTimeout`."""
        # Changes come from two signals, so check again at least every 50 ms.
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise SimTimeout(f"condition not met within {timeout} s")
            await self.world.changed.wait_for(condition, min(left, 0.05))


def _guild_of(event: str, body: Json) -> int | None:
    if event in ("GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"):
        found = body.get("id")
    elif event == "RATE_LIMITED":
        found = (body.get("meta") or {}).get("guild_id")
    else:
        found = body.get("guild_id")
    text = str(found)
    return int(text) if text.isdigit() else None
