"""A neighbour tries everything with the login that `connect` would show, and a plain client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import nats.errors
import pytest
from nats.aio.msg import Msg

from sandbox_bot.embedded import EmbeddedServers, TenantNatsServer
from sandbox_core.credentials import redis_hash
from sandbox_core.models import Sandbox
from sandbox_core.postgres import create_pool
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM, sandbox_user
from tests.conftest import ROOT, TemplateDatabase, create_database, drop_database
from tests.isolation.attacks import Attack

from .conftest import Bot, Worker, bot_process, eventually, worker
from .nats_attacks import NATS

TREASURE, OWN = "treasure", "own"


@dataclass
class Stage:
    """An attacker and its neighbour, which has unread events."""

    bot: Bot
    mine: Sandbox
    other: Sandbox
    neighbour: Worker
    heard: list[str]
    """What the neighbour's worker got, other than what the bot sends it."""
    names: dict[str, str]
    sent: int = 0

    async def intact(self) -> None:
        """The neighbour has what it had, the bot can send to both, and nobody spoke to the neighbour."""
        self.sent += 1
        for sandbox, text in ((self.mine, OWN), (self.other, TREASURE)):
            ack = await self.bot.send(sandbox, text, f"s:0:{self.sent + 1}")
            assert (ack.stream, ack.duplicate) == (SLOT_STREAM, None)
        found = await self.bot.streams.infos(await self.bot.slot(self.other))
        assert found[SLOT_STREAM].state.messages == self.sent + 1
        assert found[SLOT_STREAM].state.consumer_count == 1
        assert found[SLOT_DEAD_LETTERS].state.messages == 1
        own = await self.bot.streams.infos(await self.bot.slot(self.mine))
        assert own.keys() == {SLOT_STREAM, SLOT_DEAD_LETTERS}
        assert (own[SLOT_STREAM].state.first_seq, own[SLOT_STREAM].state.deleted) == (1, None)
        assert own[SLOT_STREAM].config.subjects == [f"sandbox.{self.mine.id}.events.*"]
        assert self.neighbour.client.is_connected
        assert self.neighbour.errors == self.heard == []


@pytest.fixture(scope="module")
async def stage(
    server: TenantNatsServer, servers: EmbeddedServers, template_db: TemplateDatabase
) -> AsyncIterator[Stage]:
    pool = await create_pool(await create_database(servers, "nats_attacks", template=template_db.name))
    async with bot_process(pool, server.url) as bot:
        mine, other = await bot.sandbox(), await bot.sandbox()
        names = {"password": urlsplit(bot.url(mine)).password or ""}
        names["password_hash"] = redis_hash(names["password"])
        for whose, sandbox in (("own", mine), ("other", other)):
            names |= {
                whose: f"sandbox.{sandbox.id}.",
                f"{whose}_id": str(sandbox.id),
                f"{whose}_user": sandbox_user(sandbox.id),
                f"{whose}_user_large": sandbox_user(sandbox.id).upper(),
                f"{whose}_slot": f"{await bot.slot(sandbox):03d}",
            }
        names["slot"] = names["own_slot"]
        async with worker(bot.url(other)) as neighbour:
            heard: list[str] = []

            async def hear(message: Msg) -> None:
                if TREASURE.encode() not in message.data:
                    heard.append(message.subject)

            await neighbour.client.subscribe(f"sandbox.{other.id}.>", cb=hear)
            js = neighbour.client.jetstream()
            await js.pull_subscribe(f"sandbox.{other.id}.events.*", durable="theirs", stream=SLOT_STREAM)
            await js.publish(f"sandbox.{other.id}.events.dead_letter.X", TREASURE.encode())
            for sandbox, text in ((mine, OWN), (other, TREASURE)):
                await bot.send(sandbox, text, "s:0:1")
            yield Stage(bot, mine, other, neighbour, heard, names)
        for sandbox in (mine, other):
            await bot.namespace.drop(sandbox)
    await pool.close()
    await drop_database(servers, "nats_attacks")


class Attacker:
    """Does what the lines say; keeps what the server says to it."""

    def __init__(self, attacker: Worker, url: str) -> None:
        self._worker = attacker
        self._url = urlsplit(url)
        self.got: list[Msg] = []

    async def tell(self) -> str:
        """Everything that the server refused, or answered, in small letters."""
        with suppress(nats.errors.Error, OSError):
            await self._worker.client.flush(timeout=5)
        answers = [f"{json.loads(each.data).get('error', '')}" for each in self.got if each.data[:1] == b"{"]
        return " ".join([*self._worker.errors, *answers]).lower()

    async def do(self, line: str) -> None:
        verb, *words = line.split()
        if verb == "LOGIN":
            await self._log_in(*words)
            return
        subject, *words = words
        client = self._worker.client
        if verb == "SUB":
            await client.subscribe(subject, cb=self._take)
            await client.flush(timeout=5)
            return
        reply = next((word[1:] for word in words if word.startswith(">")), "")
        headers = dict(word.split("=") for word in words if "=" in word)
        payload = " ".join(word for word in words if "=" not in word and not word.startswith(">")).encode()
        if verb == "PUB":
            await client.publish(subject, payload, reply=reply, headers=headers or None)
            await client.flush(timeout=5)
            return
        inbox, before = client.new_inbox(), len(self.got)
        await client.subscribe(inbox, cb=self._take)
        await client.publish(subject, payload, reply=inbox, headers=headers or None)
        await client.flush(timeout=5)

        async def answered() -> bool:
            return len(self.got) > before or bool(self._worker.errors)

        await eventually(answered)

    async def _log_in(self, user: str = "", password: str = "") -> None:
        other = Worker()
        place = f"nats://{self._url.hostname}:{self._url.port}"
        options = {"user": user, "password": password} if user else {}
        try:
            await other.connect(place, **options)
        except nats.errors.Error:
            self._worker.errors += other.errors
        else:
            await other.close()

    async def _take(self, message: Msg) -> None:
        self.got.append(message)


@pytest.mark.parametrize("attack", [each for each in NATS if each.possible], ids=str)
def test_what_remains_possible_is_said(attack: Attack) -> None:
    assert attack.possible in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_list_is_long_enough() -> None:
    assert len(NATS) >= 130


@pytest.mark.parametrize("attack", NATS, ids=str)
async def test_attack(stage: Stage, attack: Attack) -> None:
    url = stage.bot.url(stage.mine)
    async with worker(url) as connected:
        attacker = Attacker(connected, url)
        for line in attack.tried:
            await attacker.do(line.format_map(stage.names))
        if attack.nothing:
            # Something happens at the neighbour's that could be heard.
            await stage.bot.send(stage.other, TREASURE, f"s:0:{stage.sent + 2}")
            stage.sent += 1
            await stage.bot.send(stage.mine, OWN, f"s:0:{stage.sent + 1}")
            await stage.neighbour.client.request("$JS.API.STREAM.INFO.SANDBOX", b"", timeout=5)
        told = await attacker.tell()
        if attack.denied:
            assert attack.denied in told, told
        else:
            assert told == ""
        assert not any(TREASURE.encode() in each.data for each in attacker.got)
    await stage.intact()
