"""What waits for a client is bounded, whatever it is, for each of many at once."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from sandbox_gateway.sessions.events import StreamEvent
from sandbox_gateway.sessions.service import SessionTuning
from sandbox_gateway.sessions.session import Session

from .raw import Raw, connected
from .stage import QUICK, Stage, until
from .test_resume import contents

_EVENTS, _SIZE = 250, 40_000


def transport_of(raw: Raw) -> asyncio.Transport:
    assert raw.socket._conn is not None
    found = raw.socket._conn.transport
    assert isinstance(found, asyncio.Transport)
    return found


def stop_reading(raw: Raw) -> None:
    found = transport_of(raw)
    # The system reads little in its place, too.
    found.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.pause_reading()


async def test_clients_that_never_read_take_a_bounded_part_and_hold_nobody_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 500_000
    process = await stage.start(replace(QUICK, sessions=SessionTuning(waiting_bytes=most)))
    guild = stage.guilds[0]
    token = stage.token(await stage.sandbox("mine", guild))
    largest = 0
    offer = Session.offer

    def noted(session: Session, event: StreamEvent) -> None:
        nonlocal largest
        offer(session, event)
        largest = max(largest, session.waiting_bytes)

    monkeypatch.setattr(Session, "offer", noted)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(process)) for _ in range(50)]
        for each in clients:
            await each.identify(token)
            await asyncio.sleep(0.012)
        deaf, reading = clients[:40], clients[40:]
        for each in deaf:
            stop_reading(each)
            # Else its end would be waited for, ten seconds each.
            stack.callback(transport_of(each).abort)
        received = [asyncio.create_task(each.until_content(f"{_EVENTS - 1}")) for each in reading]
        for number in range(_EVENTS):
            stage.sim.message(guild, content=f"{number}", embeds=[{"description": "x" * _SIZE}])
            await asyncio.sleep(0.01)
        for each in await asyncio.gather(*received):
            assert contents(each) == [f"{number}" for number in range(_EVENTS)]
        await until(lambda: len(process.endpoint.sessions) == len(reading))
        # One event more than it may be is what shows that it is too much, and ends the session at once.
        assert most // 2 < largest < most + 2 * _SIZE
        # Each was ended with a code after which it can resume, not with one that tells it to begin anew.
        closed = process.endpoint.metrics.closed.labels("4000")
        assert closed._value.get() == len(deaf)


async def test_what_a_client_asks_for_waits_until_it_reads(stage: Stage) -> None:
    tuning = SessionTuning(answers_from=20_000)
    process = await stage.start(replace(QUICK, sessions=tuning))
    guild = stage.guilds[0]
    for number in range(120):
        guild.add_member(stage.sim.add_user(f"person-{number}"))
    token = stage.token(await stage.sandbox("mine", guild))
    async with connected(process) as raw:
        await raw.identify(token)
        (session,) = process.endpoint.sessions
        transport = session._client._request.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        transport_of(raw).pause_reading()
        asked = 40
        largest = 0
        for number in range(asked):
            await raw.send(
                8, {"guild_id": str(guild.id), "query": "person", "limit": 100, "nonce": f"{number}"}
            )
        async with asyncio.timeout(20):
            while session.waiting_bytes <= tuning.answers_from:
                await asyncio.sleep(0.02)
        for _ in range(50):
            largest = max(largest, session.waiting_bytes)
            await asyncio.sleep(0.01)
        # One chunk of each that is read at the same time.
        assert largest < tuning.answers_from + 4 * 60_000
        transport_of(raw).resume_reading()
        nonces = set()
        while len(nonces) < asked:
            payload = await raw.receive()
            if payload["t"] == "GUILD_MEMBERS_CHUNK":
                nonces.add(payload["d"]["nonce"])
        assert nonces == {f"{number}" for number in range(asked)}


async def test_a_client_that_asks_for_more_than_it_reads_is_ended(stage: Stage) -> None:
    tuning = SessionTuning(answers_from=-1)
    process = await stage.start(replace(QUICK, sessions=tuning))
    guild = stage.guilds[0]
    token = stage.token(await stage.sandbox("mine", guild))
    async with connected(process) as raw:
        await raw.identify(token)
        # None of them is ever answered here, and 120 payloads are the most in a minute.
        for _ in range(121):
            await raw.send(8, {"guild_id": str(guild.id), "query": "x", "limit": 1})
        assert await raw.close_code() == 4008
        await until(lambda: len(process.endpoint.sessions) == 0)
