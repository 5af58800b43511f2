"""Who answers the server: nobody, one process or several, one that hangs, one that does not know."""

from __future__ import annotations

import asyncio
import time

import nats.errors
import pytest

from sandbox_bot.embedded import EmbeddedServers, TenantNatsServer
from sandbox_core.models import Sandbox
from sandbox_core.nats.tenant.tokens import UnreadableRequest, read_request
from sandbox_core.postgres.pool import Pool

from .conftest import Bot, bot_process, refused, worker


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
        assert bot.responder.granted == second.responder.granted == 5
        # One of them ends, the other goes on.
        await bot.responder.close()
        assert not await refused(bot.url(sandbox))
    await bot.responder.start()


async def test_one_that_does_not_know_leaves_it_to_another(
    bot: Bot, sandbox: Sandbox, server: TenantNatsServer, pool: Pool, servers: EmbeddedServers
) -> None:
    async with bot_process(pool, server.url) as second:

        async def unknown(_sandbox_id: object) -> None:
            raise TimeoutError

        second.responder._login_of = unknown
        assert not await refused(bot.url(sandbox))
        await bot.responder.close()
        assert await refused(bot.url(sandbox))
        assert second.responder.unanswered >= 1
    await bot.responder.start()


async def test_a_flood_of_logins_is_bounded(bot: Bot, sandbox: Sandbox) -> None:
    """Most of a flood gets no answer, and the process keeps a bounded number of questions."""
    hindered = asyncio.Event()
    login_of = bot.responder._login_of

    async def slowly(sandbox_id: object) -> object:
        await hindered.wait()
        return await login_of(sandbox_id)  # type: ignore[arg-type]

    bot.responder._login_of = slowly  # type: ignore[assignment]
    flood = [asyncio.create_task(refused(bot.url(sandbox))) for _ in range(100)]
    async with asyncio.timeout(20):
        while bot.responder.unanswered < 20:
            await asyncio.sleep(0.02)
    assert len(bot.responder._answering) <= 72
    hindered.set()
    await asyncio.gather(*flood)
    bot.responder._login_of = login_of
    assert not await refused(bot.url(sandbox))


@pytest.mark.parametrize("token", [b"", b"a.b.c", b"e30.e30.e30", b"\xff.\xff.\xff", b"e30.W10.e30"])
def test_what_is_no_request_is_refused(token: bytes) -> None:
    with pytest.raises(UnreadableRequest):
        read_request(token)


async def test_what_is_no_request_gets_no_answer(bot: Bot) -> None:
    with pytest.raises(nats.errors.TimeoutError):
        await bot.auth.client.request("$SYS.REQ.USER.AUTH", b"x", timeout=0.3)
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
