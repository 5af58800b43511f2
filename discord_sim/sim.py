"""The simulator as one object: :class:`DiscordSim`."""

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

    Use it as an async context manager; everything runs in the current event
    loop. Give the bot :attr:`api_url` and :attr:`gateway_url`. Arguments:
    :class:`discord_sim.server.SimServer`.
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
        """Dispatch an event with exactly this ``d``.

        Args:
            type: Event name.
            d: The event's data, sent as it is.
            guild_id: Only chooses the shard. When not given it is taken from
                ``d``; without any the event goes to shard 0.

        Returns:
            One frame per session of that shard, connected or resumable.
        """
        where = _guild_of(type, d) if guild_id is None else guild_id
        return self._send(type, d, where)

    def emit_raw(self, body: bytes, type: str, guild_id: int | None = None) -> list[Frame]:  # noqa: A002
        """Dispatch an event whose ``d`` is this JSON text, byte for byte."""
        return self.hub.dispatch(Payload(type, guild_id, body))

    def message(
        self,
        guild: SimGuild,
        channel: SimChannel | None = None,
        author: SimUser | None = None,
        content: str = "hello",
        **extra: Any,
    ) -> list[Frame]:
        """Somebody writes in a guild; ``extra`` is merged into the event's ``d``."""
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
        """Send many prepared MESSAGE_CREATE events, guilds taking turns.

        Args:
            count: Number of events.
            guilds: All guilds of the bot when not given.
            rate: Events per second; None is as fast as clients read.
            payload_bytes: Size of a frame's JSON text, about.
            hold_disconnected: Wait while a resumable session is disconnected
                instead of filling its replay buffer. By default only without
                a rate.

        Each event has its own ``id``, and its due time in nanoseconds since
        the Unix epoch as ``nonce``.

        Raises:
            SimNotConnected: There is no session.
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

        Args:
            user: Who.
            channel: Where; a guild's channel or a direct message channel.
            path: ``"sandbox create"``.
            timeout: Seconds to wait for the answer.
            wait: Wait for the visible answer, not only for the deferral.
            values: Options whose names are no Python words, or collide.
            options: Options by name; ``_`` may stand for ``-``.

        Raises:
            SimUnknownCommand: The bot has not synced it there.
            SimBadOption: An option does not fit what was synced.
            SimForbidden: Discord would not offer it to this user.
            SimTimeout: No answer in time.
            SimNotConnected: No session would receive it.
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
        """The choices (name, value) offered while typing ``value`` into an option."""
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
        """Press a button, named by label or custom id, or the only one.

        A click that is only acknowledged returns when ``timeout`` has passed
        or, with ``wait=False``, at once.
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
        """Send the form that ``opened`` showed; values go by custom id."""
        return await self.actors.submit_modal(opened, user, values or {}, timeout=timeout, wait=wait)

    async def dm(
        self, user: SimUser, text: str, *, timeout: float = 30.0, count: int = 1
    ) -> list[SimMessage]:
        """Write to the bot; its replies, once ``count`` came or ``timeout`` passed."""
        return await self.actors.dm(user, text, timeout=timeout, count=count)

    # -- faults, by the names tests use -------------------------------------

    def reconnect(self, shard: int | None = None) -> Awaitable[int]:
        """Op 7; awaiting it waits until the connections have ended."""
        return self.faults.reconnect(shard)

    def invalidate(self, resumable: bool, shard: int | None = None) -> Awaitable[int]:
        """Op 9; awaiting it waits until the connections have ended."""
        return self.faults.invalidate(resumable=resumable, shard=shard)

    def close(self, code: int, shard: int | None = None) -> Awaitable[int]:
        """A close code; awaiting it waits until the connections have ended."""
        return self.faults.close(code, shard)

    def drop(self, shard: int | None = None) -> Awaitable[int]:
        """A TCP reset; awaiting it waits until the connections have ended."""
        return self.faults.drop(shard)

    def garble(self, shard: int | None = None) -> Awaitable[int]:
        """A message that can't be decompressed; awaiting it waits until the connections have ended."""
        return self.faults.garble(shard)

    def freeze_acks(self, on: bool = True, shard: int | None = None) -> None:
        """Leave heartbeats unacknowledged."""
        self.faults.freeze_acks(on, shard)

    def half_open(self, on: bool = True, shard: int | None = None) -> None:
        """Keep TCP up but neither send nor answer."""
        self.faults.half_open(on, shard)

    def refuse_resume_url(self, on: bool = True, *, how: str = "drop") -> None:
        """Make the resume URL useless while the normal one works."""
        self.faults.refuse_resume_url(on, how=how)

    def show_page(self, status: int | None, retry_after: str = "0", path: str = "") -> None:
        """Answer matching REST requests with a proxy's HTML page, as Cloudflare does; None ends it."""
        self.rest.page = None if status is None else (re.compile(path), status, retry_after)

    def fail_next(self, method: str, path: str, status: int = 500, times: int = 1) -> None:
        """Answer the next matching REST requests with an error; ``path`` is a pattern."""
        self.rest.failures.extend([(method, re.compile(path), status)] * times)

    def lose_next(self, method: str, path: str) -> None:
        """Do what the next matching REST request asks for, and answer 502, as a proxy may."""
        self.rest.lost.append((method, re.compile(path)))

    # -- observation -------------------------------------------------------

    @property
    def sessions(self) -> list[GatewaySession]:
        """Every session there has been, oldest first."""
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
        """REST requests for which there is no route."""
        return self.rest.unknown_requests

    @property
    def record(self) -> bool:
        """Whether dispatched frames are kept; can be switched."""
        return self.hub.record

    @record.setter
    def record(self, on: bool) -> None:
        self.hub.record = on

    @property
    def sent(self) -> list[Frame]:
        """The frames kept while :attr:`record` was on."""
        return self.hub.sent

    async def wait_connected(self, shards: int = 1, timeout: float = 30.0) -> None:
        """Wait until this many different shards are connected.

        Raises:
            SimTimeout: They did not connect in time.
        """

        def connected() -> set[int]:
            return {s.shard for s in self.hub.sessions if s.connected}

        if not await self.gateway.changed.wait_for(lambda: len(connected()) >= shards, timeout):
            raise SimTimeout(f"shards connected after {timeout} s: {sorted(connected())}")

    async def wait_for(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait for anything that sessions, messages or interactions can change.

        Raises:
            SimTimeout: It did not become true in time.
        """
        # Two sources of change, so look again at least every 50 ms.
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
