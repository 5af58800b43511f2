"""Tries attacks on the sandboxes' NATS server, with a plain client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import PubAck
from pydantic import SecretStr

from sandbox_core.addresses import NatsAddress
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.errors import translating
from sandbox_core.nats.login import TlsClient
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM, StreamNames, nats_prefix, sandbox_user
from sandbox_core.tenant_nats import TenantNats

from .attacks import Attack, CameBack, Tried, Verdict, afterwards, brief, judge
from .nats_attacks import NATS
from .on_postgres import CLIENT

_WITHIN = 3
_TREASURE, _OWN = b"treasure", b"own"
_TAKEN_ID = "s:0:2"
"""The message id that attacks try to use up."""
_ANSWER_WITHIN = 2.0


async def attack_nats(
    bot: TenantNats,
    own: NatsAddress,
    other: NatsAddress,
    tried: list[Tried],
    *,
    own_id: UUID,
    other_id: UUID,
    names: StreamNames,
) -> None:
    """Try everything of `NATS` with the login `own` against the sandbox of `other`.

    `bot` publishes events to both. Raises when the server goes away.
    """
    stage = _Stage(bot, own_id, other_id)
    with translating():
        async with plain_client(other) as neighbour, plain_client(own) as plain:
            await stage.prepare(neighbour)
            attacker = NatsAttacker(plain, own, await stage.names(own, names), treasure=_TREASURE)
            for group, attacks in NATS.items():
                for attack in attacks:
                    await attacker.begin(attack)
                    if attack.nothing:
                        # Something happens that could be heard.
                        await stage.send()
                        await stage.speak(neighbour)
                    came = await attacker.finish()
                    heard = await stage.heard_by(neighbour)
                    row = judge(group, attack, came)
                    if heard:
                        row = Tried(group, attack.what, Verdict.FAILED, brief(f"the neighbour heard {heard}"))
                    tried.append(row)
            tried.append(afterwards(await stage.changed(neighbour)))


class _Stage:
    """What the bot and the neighbour have there."""

    def __init__(self, bot: TenantNats, own_id: UUID, other_id: UUID) -> None:
        self._bot = bot
        self._ids = {own_id: _OWN, other_id: _TREASURE}
        self._own_id, self._other_id = own_id, other_id
        self._heard: list[str] = []
        self._sent = 0

    async def prepare(self, neighbour: PlainClient) -> None:
        """Give the neighbour events, a consumer and a dead letter, and let it hear its subjects."""

        async def hear(message: Msg) -> None:
            if _TREASURE not in message.data:
                self._heard.append(message.subject)

        prefix, js = nats_prefix(self._other_id), neighbour.client.jetstream(timeout=_WITHIN)
        await neighbour.client.subscribe(f"{prefix}>", cb=hear)
        await js.pull_subscribe(f"{prefix}events.*", durable="theirs", stream=SLOT_STREAM)
        await js.publish(f"{prefix}events.dead_letter.X", _TREASURE)
        await self.send()

    async def names(self, own: NatsAddress, names: StreamNames) -> dict[str, str]:
        """Return the names for the lines."""
        slots = {
            whose: f"{await self._slot(sandbox_id):03d}"
            for whose, sandbox_id in (("slot", self._own_id), ("other_slot", self._other_id))
        }
        return slots | {
            "own": nats_prefix(self._own_id),
            "own_id": str(self._own_id),
            "own_user": sandbox_user(self._own_id),
            "other": nats_prefix(self._other_id),
            "other_id": str(self._other_id),
            "other_user": sandbox_user(self._other_id),
            "password": own.password.get_secret_value() if own.password else "",
            "production": names.prefix,
            "stream": names.events,
        }

    async def _slot(self, sandbox_id: UUID) -> int:
        slot = await self._bot.namespace.slot_of(sandbox_id)
        if slot is None:
            raise DependencyUnavailable("NATS", "a sandbox has lost its account")
        return slot

    async def send(self, message_id: str | None = None) -> list[PubAck]:
        """Publish an event to both, as the bot does."""
        headers = {} if message_id is None else {"Nats-Msg-Id": message_id}
        self._sent += 1
        return [
            await self._bot.streams.publish(
                await self._slot(sandbox_id), f"{nats_prefix(sandbox_id)}events.READY", payload, headers
            )
            for sandbox_id, payload in self._ids.items()
        ]

    async def speak(self, neighbour: PlainClient) -> None:
        """Let the neighbour publish something on a subject of its own."""
        if neighbour.client.is_connected:
            await neighbour.client.publish(f"{nats_prefix(self._other_id)}jobs", _TREASURE)
            await neighbour.client.flush(timeout=_WITHIN)

    async def heard_by(self, neighbour: PlainClient) -> str:
        """Return a subject on which the neighbour got what the bot did not send, or ""."""
        if neighbour.client.is_connected:
            await neighbour.client.flush(timeout=_WITHIN)
        heard, self._heard = self._heard, []
        return heard[0] if heard else ""

    async def changed(self, neighbour: PlainClient) -> str:
        """Return what is no longer as it was, or ""."""
        if not neighbour.client.is_connected:
            return "its connection was ended"
        acks = await self.send(_TAKEN_ID)
        if any(ack.duplicate for ack in acks):
            return "the bot's event counts as a duplicate"
        theirs = await self._bot.streams.infos(await self._slot(self._other_id))
        own = await self._bot.streams.infos(await self._slot(self._own_id))
        if {*theirs} != {*own} or {*own} != {SLOT_STREAM, SLOT_DEAD_LETTERS}:
            return "there are other streams"
        there = theirs[SLOT_STREAM].state
        found = (there.messages, there.consumer_count, theirs[SLOT_DEAD_LETTERS].state.messages)
        return "" if found == (self._sent, 1, 1) else "its streams have something else"


class PlainClient:
    """A client of nats-py that never connects again, and keeps what the server objects to."""

    def __init__(self) -> None:
        self.objections: list[str] = []
        self.objected = asyncio.Event()
        self.client = TlsClient()

    async def connect(self, address: NatsAddress) -> None:
        """Connect. Raises nats-py's errors and `OSError`."""

        async def error(problem: Exception) -> None:
            self.objections.append(_plain(str(problem) or type(problem).__name__))
            self.objected.set()

        try:
            await self.client.connect(
                **address.arguments(),
                name=CLIENT,
                allow_reconnect=False,
                connect_timeout=_WITHIN,
                # Also the first connection is tried again, for two minutes by default.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=error,
            )
            # nats-py 2.16 returns without a connection when it waits in vain for the first PONG.
            if not self.client.is_connected:
                raise nats.errors.NoServersError
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection."""
        await close_wholly(self.client)


async def close_wholly(client: Client) -> None:
    """Close nats-py's client, which in 2.16 leaves the socket of a refused connection open."""
    if client.is_connected:
        await client.close()
    transport: Any = client._transport
    if transport is not None:
        transport.close()
        with suppress(OSError):
            await transport.wait_closed()


@asynccontextmanager
async def plain_client(address: NatsAddress) -> AsyncIterator[PlainClient]:
    """A plain client that is connected."""
    made = PlainClient()
    await made.connect(address)
    try:
        yield made
    finally:
        await made.close()


class NatsAttacker:
    """Tries what the lines of `nats_attacks` say with a sandbox's own login."""

    def __init__(
        self,
        attacker: PlainClient,
        address: NatsAddress,
        names: Mapping[str, object],
        *,
        treasure: bytes,
        patience: float = _ANSWER_WITHIN,
    ) -> None:
        """`treasure` is in what only the neighbour may hear; `patience`, in seconds, is for an answer."""
        self._attacker = attacker
        self._address = address
        self._names = names
        self._treasure = treasure
        self._patience = patience
        self._got: list[Msg] = []
        self._new = asyncio.Event()
        self._subscriptions: list[Any] = []

    async def attempt(self, attack: Attack) -> CameBack:
        """Do what the lines say; `finish` returns what came back. Raises when the server is away."""
        await self.begin(attack)
        return await self.finish()

    async def begin(self, attack: Attack) -> None:
        """Do what the lines say."""
        self._got.clear()
        self._attacker.objections.clear()
        for line in attack.tried:
            with translating():
                await self._do(line.format_map(self._names))

    async def finish(self) -> CameBack:
        """Return what the server refused, or answered, since `begin`."""
        # All that was sent before is answered then.
        with translating():
            await self._attacker.client.flush(timeout=_WITHIN)
        refusals = [*self._attacker.objections, *(code for each in self._got if (code := _error_in(each)))]
        for each in self._subscriptions:
            await each.unsubscribe()
        self._subscriptions.clear()
        stolen = any(self._treasure in each.data for each in self._got)
        got = f"{len(self._got)} messages came" if self._got else "the server did it"
        said = "the neighbour's messages came" if stolen else "; ".join(refusals) or got
        return CameBack(() if stolen else tuple(refusals), said, told=stolen)

    async def _do(self, line: str) -> None:
        verb, *words = line.split()
        if verb == "LOGIN":
            await self._log_in(*words)
            return
        subject, *words = words
        client = self._attacker.client
        if verb == "SUB":
            self._subscriptions.append(await client.subscribe(subject, cb=self._take))
            await client.flush(timeout=_WITHIN)
            return
        reply = next((word[1:] for word in words if word.startswith(">")), "")
        headers = dict(word.split("=", 1) for word in words if "=" in word)
        payload = " ".join(word for word in words if "=" not in word and not word.startswith(">")).encode()
        if verb == "PUB":
            await client.publish(subject, payload, reply=reply, headers=headers or None)
            await client.flush(timeout=_WITHIN)
            return
        self._new.clear()
        self._attacker.objected.clear()
        inbox = client.new_inbox()
        self._subscriptions.append(await client.subscribe(inbox, cb=self._take))
        await client.publish(subject, payload, reply=inbox, headers=headers or None)
        await client.flush(timeout=_WITHIN)
        await self._answered()

    async def _answered(self) -> None:
        waiting = [asyncio.ensure_future(each.wait()) for each in (self._new, self._attacker.objected)]
        try:
            await asyncio.wait(waiting, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _log_in(self, user: str | None = None, password: str = "") -> None:
        other = PlainClient()
        try:
            await other.connect(replace(self._address, user=user, password=SecretStr(password), token=None))
        except nats.errors.Error:
            self._attacker.objections += other.objections
        else:
            await other.close()

    async def _take(self, message: Msg) -> None:
        self._got.append(message)
        self._new.set()


def _plain(problem: str) -> str:
    """Return the server's words without the driver's, in small letters: `authorization violation`."""
    return problem.removeprefix("nats: ").strip("'\"").lower()


def _error_in(answer: Msg) -> str:
    """Return the code of the error in an answer of JetStream, or ""."""
    if answer.data[:1] != b"{":
        return ""
    try:
        error = json.loads(answer.data).get("error")
    except ValueError:
        return ""
    return f"{error.get('err_code', '')}: {error.get('description', '')}" if isinstance(error, dict) else ""
