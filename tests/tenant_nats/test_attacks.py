"""A neighbour tries everything with the login that `connect` would show, and a plain client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from nats.aio.msg import Msg

from sandbox_bot.embedded import EmbeddedServers, TenantNatsServer
from sandbox_core.addresses import NatsAddress
from sandbox_core.credentials import redis_hash
from sandbox_core.isolation.attacks import Attack
from sandbox_core.isolation.on_nats import NatsAttacker, plain_client
from sandbox_core.models import Sandbox
from sandbox_core.postgres import create_pool
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM, sandbox_user
from tests.conftest import ROOT, TemplateDatabase, create_database, drop_database
from tests.isolation.conftest import expect

from .conftest import Bot, Worker, bot_process, worker
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
        names |= {"slot": names["own_slot"], "production": "events", "stream": "EVENTS"}
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


@pytest.mark.parametrize("attack", [each for each in NATS if each.possible], ids=str)
def test_what_remains_possible_is_said(attack: Attack) -> None:
    assert attack.possible in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_list_is_long_enough() -> None:
    assert len(NATS) >= 130


@pytest.mark.parametrize("attack", NATS, ids=str)
async def test_attack(stage: Stage, attack: Attack) -> None:
    address = NatsAddress.parse(stage.bot.url(stage.mine))
    async with plain_client(address) as plain:
        treasure = TREASURE.encode()
        attacker = NatsAttacker(plain, address, stage.names, treasure=treasure, patience=15.0)
        await attacker.begin(attack)
        if attack.nothing:
            # Something happens at the neighbour's that could be heard.
            await stage.bot.send(stage.other, TREASURE, f"s:0:{stage.sent + 2}")
            stage.sent += 1
            await stage.bot.send(stage.mine, OWN, f"s:0:{stage.sent + 1}")
            await stage.neighbour.client.request("$JS.API.STREAM.INFO.SANDBOX", b"", timeout=5)
        expect(attack, await attacker.finish())
    await stage.intact()
