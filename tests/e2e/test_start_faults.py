"""`sandboxctl run` with one thing wrong: it says what was tried, where, and what answered."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from discord_sim import DiscordSim
from tests.contract.stores.test_faults import answering
from tests.doctor.servers import nats_server, valkey
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import program
from tests.e2e.test_programs import discord_environment

HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
SECRET = "Qz7Wx"

Addresses = dict[str, str]
Fault = Callable[[Addresses, Path], AbstractAsyncContextManager[Addresses]]
"""Makes the fault, and gives the addresses that lead to it."""


def at(variable: str, url: str) -> Fault:
    """Somewhere that only the address says."""

    @asynccontextmanager
    async def fault(_urls: Addresses, _directory: Path) -> AsyncIterator[Addresses]:
        yield {variable: url.format(port=free_port())}

    return fault


def something_else(variable: str, scheme: str, answer: bytes) -> Fault:
    @asynccontextmanager
    async def fault(_urls: Addresses, _directory: Path) -> AsyncIterator[Addresses]:
        async with answering(answer) as where:
            yield {variable: f"{scheme}://bot:{SECRET}@{where}/0"}

    return fault


def changed(variable: str, change: Callable[[str], str]) -> Fault:
    """The right server, and something else in its address."""

    @asynccontextmanager
    async def fault(urls: Addresses, _directory: Path) -> AsyncIterator[Addresses]:
        yield {variable: change(urls[variable])}

    return fault


def wrong_password(url: str) -> str:
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port}"
    return urlunsplit(parts._replace(netloc=f"{parts.username or 'bot'}:{SECRET}@{where}"))


def locked(table: str) -> Fault:
    @asynccontextmanager
    async def fault(urls: Addresses, _directory: Path) -> AsyncIterator[Addresses]:
        connection = await asyncpg.connect(urls["DATABASE_URL"])
        try:
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                yield {"DATABASE_URL": urls["DATABASE_URL"]}
        finally:
            await connection.close()

    return fault


@asynccontextmanager
async def without_jetstream(_urls: Addresses, directory: Path) -> AsyncIterator[Addresses]:
    async with nats_server(directory, jetstream=None) as server:
        yield {"NATS_URL": server.url}


@asynccontextmanager
async def nats_with_a_password(_urls: Addresses, directory: Path) -> AsyncIterator[Addresses]:
    async with nats_server(directory, authorization={"user": "bot", "password": "right"}) as server:
        yield {"NATS_URL": f"nats://bot:{SECRET}@127.0.0.1:{server.port}"}


def redis_that(**options: str) -> Fault:
    @asynccontextmanager
    async def fault(_urls: Addresses, directory: Path) -> AsyncIterator[Addresses]:
        async with valkey(directory, **options) as server:
            yield {"REDIS_URL": server.url}

    return fault


FAULTS: dict[str, tuple[Fault, str, str]] = {
    "PostgreSQL away": (
        at("DATABASE_URL", "postgresql://bot:" + SECRET + "@127.0.0.1:{port}/bot"),
        "PostgreSQL",
        "connection refused at {where}",
    ),
    "PostgreSQL's password": (
        changed("DATABASE_URL", wrong_password),
        "PostgreSQL",
        "login refused at {where} as sandbox: the password is wrong, or there is no such role",
    ),
    "PostgreSQL without TLS": (
        changed("DATABASE_URL", "{}?sslmode=require".format),
        "PostgreSQL",
        "login refused at {where} as sandbox: sslmode asks for TLS, and the server has none",
    ),
    "no PostgreSQL": (
        something_else("DATABASE_URL", "postgresql", HTTP),
        "PostgreSQL",
        "what answers there is not PostgreSQL at {where}",
    ),
    "a locked table": (
        locked("gateway_shards"),
        "gateway",
        "its shards are claimed in PostgreSQL: no answer within 2.5 s at {where}",
    ),
    "Redis away": (
        at("REDIS_URL", "redis://bot:" + SECRET + "@127.0.0.1:{port}/0"),
        "Redis",
        "connection refused at {where}",
    ),
    "no Redis": (
        something_else("REDIS_URL", "redis", HTTP),
        "Redis",
        "what answers there is not Redis at {where}",
    ),
    "a replica": (
        redis_that(replicaof="127.0.0.1 1"),
        "Redis",
        "answers at {where}, but it takes no writes: it is a replica (READONLY)",
    ),
    "a full memory": (
        redis_that(maxmemory="1"),
        "Redis",
        "answers at {where}, but its memory is full (OOM)",
    ),
    "NATS away": (
        at("NATS_URL", "nats://bot:" + SECRET + "@127.0.0.1:{port}"),
        "NATS",
        "connection refused at {where}",
    ),
    "NATS' password": (
        nats_with_a_password,
        "NATS",
        "login refused at {where} as bot: the user's name, the password or the token is wrong or missing",
    ),
    "NATS without TLS": (
        changed("NATS_URL", lambda url: url.replace("nats://", "tls://")),
        "NATS",
        "login refused at {where} as nobody: the address begins with tls://, and the server has no TLS",
    ),
    "no JetStream": (
        without_jetstream,
        "NATS",
        "answers at {where}, but JetStream does not answer: it is off, or its cluster has no leader",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_start_says_what_it_met(
    sim: DiscordSim, urls: dict[str, str], tmp_path: Path, name: str
) -> None:
    fault, area, said = FAULTS[name]
    addresses = {variable.upper(): url for variable, url in urls.items()}
    port = free_port()
    environment = discord_environment(sim, sim.add_guild("dev").id, port)
    environment["SANDBOX_ISOLATION"] = "convention"
    async with contextlib.AsyncExitStack() as stack:
        wrong = await stack.enter_async_context(fault(addresses, tmp_path))
        ((variable, address),) = wrong.items()
        parts = urlsplit(address)
        expected = said.format(where=f"{parts.hostname}:{parts.port}")
        bot = await stack.enter_async_context(
            program("sandbox_bot", "run", directory=tmp_path, **environment, **addresses | wrong)
        )
        answer: dict[str, dict[str, str]] = {}

        async def answered() -> bool:
            assert bot.running, bot.errors
            status, body = await get(f"http://127.0.0.1:{port}", "/readyz")
            if status:
                answer.update(json.loads(body))
            told = answer.get("missing", {}) | answer.get("degraded", {})
            return told.get(area, "").removesuffix(f"; check {variable}") == expected

        await eventually(answered)
        assert (area == "Redis") == ("degraded" in answer)
        if area != "gateway":
            await eventually(lambda: f"dependency={area}" in bot.errors)
            told = [line for line in bot.errors.splitlines() if f"dependency={area}" in line]
            assert any(expected in line.replace("\\'", "'") for line in told), told
        assert SECRET not in bot.errors
        # Sentences, and no names of classes.
        assert re.search(r"SANDBOX_0\d\d|Traceback|Unavailable\(|Refused\(", bot.errors) is None
