"""Who answers the server: nobody, one process or several, one that hangs, one that does not know."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import nats.errors
import pytest
from pydantic import SecretStr

from sandbox_bot.embedded import EmbeddedServers, TenantNatsServer
from sandbox_core.credentials import CredentialsKey
from sandbox_core.models import Sandbox
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.tenant.callout import CalloutResponder, LoginRates
from sandbox_core.nats.tenant.keys import TenantKeys
from sandbox_core.nats.tenant.tokens import LoginRequest, UnreadableRequest, read_request
from sandbox_core.postgres.pool import Pool

from .conftest import KEY, Bot, Worker, bot_process, eventually, raw, refused, worker


async def test_without_an_answer_nobody_is_let_in(bot: Bot, sandbox: Sandbox) -> None:
    async with worker(bot.url(sandbox)) as before:
        await bot.responder.close()
        began = time.monotonic()
        assert await refused(bot.url(sandbox))
        assert time.monotonic() - began > 1.0
        # Whoever is connected stays so, and gets events.
        assert before.client.is_connected
        assert (await bot.send(sandbox, "x")).seq == 1
    await bot.responder.start()
    assert not await refused(bot.url(sandbox))


async def test_of_two_processes_the_first_answer_counts(
    bot: Bot, sandbox: Sandbox, server: TenantNatsServer, pool: Pool
) -> None:
    async with bot_process(pool, server.url) as second:
        for _ in range(5):
            assert not await refused(bot.url(sandbox))
            assert await refused(bot.url(sandbox).replace("@", "x@"))

        async def both_have_answered() -> bool:
            # The slower one's answer, which does not count, may come after the login.
            return bot.responder.granted == second.responder.granted == 5

        await eventually(both_have_answered)
        # One of them ends, the other goes on.
        await bot.responder.close()
        assert not await refused(bot.url(sandbox))
    await bot.responder.start()


async def test_one_that_does_not_know_leaves_it_to_another(
    bot: Bot, sandbox: Sandbox, server: TenantNatsServer, pool: Pool, servers: EmbeddedServers
) -> None:
    async with bot_process(pool, server.url) as second:

        async def unknown(_sandbox_id: object, _guest: str) -> None:
            raise TimeoutError

        second.responder._login_of = unknown
        assert not await refused(bot.url(sandbox))
        await bot.responder.close()
        assert await refused(bot.url(sandbox))
        assert second.responder.unanswered >= 1
    await bot.responder.start()


async def test_a_flood_of_logins_is_bounded(server: TenantNatsServer, pool: Pool) -> None:
    """Most of a flood gets no answer, and the process looks at a bounded number."""
    async with bot_process(pool, server.url, rates=LoginRates()) as bot:
        sandbox = await bot.sandbox()

        async def fail() -> None:
            async with raw(bot.url(sandbox).replace("@", "x@"), "PING") as (reader, _):
                with suppress(OSError):
                    assert b"PONG" not in await reader.read()

        await asyncio.gather(*(fail() for _ in range(150)))
        assert bot.responder.unanswered >= 50
        assert bot.responder.refused <= 100

        async def let_in() -> bool:
            return not await refused(bot.url(sandbox))

        await eventually(let_in)
        await bot.namespace.drop(sandbox)


def test_one_host_does_not_use_up_all_logins() -> None:
    now = [0.0]
    responder = CalloutResponder(
        NatsConnection(), TenantKeys(CredentialsKey(SecretStr(KEY))), _nobody, monotonic=lambda: now[0]
    )
    assert [responder._may_ask("10.0.0.1") for _ in range(60)].count(True) == 40
    assert responder._may_ask("10.0.0.2")
    now[0] = 1.0
    assert [responder._may_ask("10.0.0.1") for _ in range(60)].count(True) == 10
    # Many hosts together are bounded, too.
    now[0] = 100.0
    allowed = [responder._may_ask(f"10.0.1.{number}") for number in range(250)]
    assert allowed.count(True) == 100


async def _nobody(_sandbox_id: object) -> None:
    return None


@dataclass
class Held:
    """Answers that are ready, and not sent yet."""

    ready: asyncio.Event
    go: asyncio.Event


@pytest.fixture
def held(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> Held:
    made, judge = Held(asyncio.Event(), asyncio.Event()), bot.responder.judge

    async def late(request: LoginRequest) -> bytes:
        answer = await judge(request)
        made.ready.set()
        await made.go.wait()
        return answer

    monkeypatch.setattr(bot.responder, "judge", late)
    return made


async def test_a_login_that_outlasts_its_sandbox_is_cut_off(bot: Bot, sandbox: Sandbox, held: Held) -> None:
    """It was begun before, and finished after all connections had been ended."""
    connecting = asyncio.create_task(connected_late(bot.url(sandbox)))
    await held.ready.wait()
    await bot.namespace.drop(sandbox)
    held.go.set()
    late = await connecting
    assert await bot.namespace.list_ids() == {str(sandbox.id)}
    assert await bot.logins.lacking([]) == set()
    async with asyncio.timeout(10):
        await late.disconnected.wait()
    assert await bot.namespace.list_ids() == set()
    await late.close()


async def test_a_login_that_outlasts_a_rotation_is_found(bot: Bot, sandbox: Sandbox, held: Held) -> None:
    connecting = asyncio.create_task(connected_late(bot.url(sandbox)))
    await held.ready.wait()
    rotated = sandbox.evolve(generation=2)
    await bot.logins.make(rotated)
    await bot.logins.cut(rotated)
    held.go.set()
    late = await connecting
    assert await bot.logins.lacking([rotated]) == {sandbox.id}
    await bot.logins.cut(rotated)
    async with asyncio.timeout(10):
        await late.disconnected.wait()
    assert await bot.logins.lacking([rotated]) == set()
    await late.close()


async def connected_late(url: str) -> Worker:
    made = Worker()
    await made.connect(url)
    return made


@pytest.mark.parametrize("token", [b"", b"a.b.c", b"e30.e30.e30", b"\xff.\xff.\xff", b"e30.W10.e30"])
def test_what_is_no_request_is_refused(token: bytes) -> None:
    with pytest.raises(UnreadableRequest):
        read_request(token)


async def test_what_is_no_request_gets_no_answer(bot: Bot) -> None:
    with pytest.raises(nats.errors.TimeoutError):
        await bot.nats.auth.client.request("$SYS.REQ.USER.AUTH", b"x", timeout=0.3)
    assert bot.responder.granted == 0


async def test_passwords_are_in_no_log(
    bot: Bot, sandbox: Sandbox, server: TenantNatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    password = bot.url(sandbox).split("@")[0].rsplit(":", 1)[1]
    assert not await refused(bot.url(sandbox))
    assert await refused(bot.url(sandbox).replace(password, password[::-1]))
    await bot.namespace.drop(sandbox)
    assert await refused(bot.url(sandbox))
    out, err = capsys.readouterr()
    everything = out + err + server._log.read_text()
    assert password not in everything
    assert password[::-1] not in everything
